"""Everything that Airflow learns about this package without importing the rest of it."""

from __future__ import annotations

from typing import Any

from airflow_ft_events.vendors import AUTO, FAMILIES

CONNECTION_TYPE = "fine_tuning"
HOOK_NAME = "Fine-tuning API"
INTEGRATION = "Fine-tuning"
STORAGE = "Object storage"

# Airflow 2.11 asks the hook for this, later versions read it from the provider info.
UI_FIELD_BEHAVIOUR: dict[str, Any] = {
    "hidden_fields": ["login", "schema", "port"],
    "relabeling": {"host": "Base URL", "password": "API key"},
    "placeholders": {
        "host": "https://api.openai.com/v1",
        "password": "sk-...",
        "extra": '{"vendor": "auto", "timeout": 30, "max_retries": 5}',
    },
}

# Each is stored in the connection's extra under its own name.
CONNECTION_FIELDS: dict[str, Any] = {
    "vendor": {
        "label": "Vendor",
        "description": "Whose API it is. With auto, the base URL decides.",
        "schema": {
            "type": ["string", "null"],
            "enum": [AUTO, *FAMILIES],
            "default": AUTO,
        },
    },
    "organization": {
        "label": "Organization",
        "description": "Sent as OpenAI-Organization.",
        "schema": {"type": ["string", "null"]},
    },
    "project": {
        "label": "Project",
        "description": "Sent as OpenAI-Project.",
        "schema": {"type": ["string", "null"]},
    },
    "api_version": {
        "label": "API version",
        "description": "Azure only, for example 2024-10-21. Without it, Azure's v1 path is used.",
        "schema": {"type": ["string", "null"]},
    },
    "auth": {
        "label": "Authentication",
        "description": "Azure only: use an API key, or a Microsoft Entra token.",
        "schema": {"type": ["string", "null"], "enum": ["key", "entra"], "default": "key"},
    },
    "signals": {
        "label": "Signals",
        "description": "For a server with final messages of its own: a JSON object from message or type "
        'pattern to outcome, such as {"Training done.*": "succeeded"}.',
        "schema": {"type": ["object", "null"]},
    },
    "headers": {
        "label": "Headers",
        "description": "More headers for each request, as a JSON object. Their values are masked in logs.",
        "schema": {"type": ["object", "null"]},
    },
    "timeout": {
        "label": "Timeout",
        "description": "The longest that a read may take, in seconds.",
        "schema": {"type": ["number", "null"], "exclusiveMinimum": 0, "default": 30},
    },
    "max_retries": {
        "label": "Retries",
        "description": "How often a worker retries a request after a temporary fault.",
        "schema": {"type": ["integer", "null"], "minimum": 0, "default": 5},
    },
    "page_size": {
        "label": "Page size",
        "description": "Events per request.",
        "schema": {"type": ["integer", "null"], "minimum": 1, "default": 100},
    },
    "verify": {
        "label": "Verify TLS",
        "description": "true, false, or the path of a CA bundle.",
        "schema": {"type": ["boolean", "string", "null"], "default": True},
    },
    "allow_http": {
        "label": "Allow http",
        "description": "Allow sending the key without TLS to a host other than this one.",
        "schema": {"type": ["boolean", "null"], "default": False},
    },
}


def get_provider_info() -> dict[str, Any]:
    """
    Describe the provider to Airflow.

    :returns: a dict that conforms to ``airflow/provider_info.schema.json``.
    """
    return {
        "package-name": "airflow-ft-events",
        "name": "Fine-tuning events",
        "description": "Follows fine-tuning jobs on any server that speaks OpenAI's fine-tuning API.\n",
        "integrations": [
            {
                "integration-name": INTEGRATION,
                "external-doc-url": "https://platform.openai.com/docs/api-reference/fine-tuning",
                "tags": ["service"],
            },
            {
                "integration-name": STORAGE,
                "external-doc-url": "https://filesystem-spec.readthedocs.io/",
                "tags": ["software"],
            },
        ],
        "hooks": [
            {"integration-name": INTEGRATION, "python-modules": ["airflow_ft_events.hooks.fine_tuning"]},
        ],
        "triggers": [
            {"integration-name": INTEGRATION, "python-modules": ["airflow_ft_events.triggers.fine_tuning"]},
        ],
        "sensors": [
            {"integration-name": INTEGRATION, "python-modules": ["airflow_ft_events.sensors.fine_tuning"]},
        ],
        "operators": [
            {"integration-name": INTEGRATION, "python-modules": ["airflow_ft_events.operators.fine_tuning"]},
        ],
        "transfers": [
            {
                "source-integration-name": INTEGRATION,
                "target-integration-name": STORAGE,
                "python-module": "airflow_ft_events.transfers.fine_tuning_to_object_storage",
            },
        ],
        "connection-types": [
            {
                "connection-type": CONNECTION_TYPE,
                "hook-class-name": "airflow_ft_events.hooks.fine_tuning.FineTuningHook",
                "hook-name": HOOK_NAME,
                "conn-fields": CONNECTION_FIELDS,
                "ui-field-behaviour": {
                    "hidden-fields": UI_FIELD_BEHAVIOUR["hidden_fields"],
                    "relabeling": UI_FIELD_BEHAVIOUR["relabeling"],
                    "placeholders": UI_FIELD_BEHAVIOUR["placeholders"],
                },
            }
        ],
    }
