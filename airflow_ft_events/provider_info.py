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
        "description": "key: the API key. entra: a Microsoft Entra token (Azure). aws: a key that an AWS "
        "identity makes (Bedrock). none: nothing.",
        "schema": {"type": ["string", "null"], "enum": ["key", "entra", "aws", "none"], "default": "key"},
    },
    "token_scope": {
        "label": "Token scope",
        "description": "With entra, if the server wants tokens for a scope other than the one derived from "
        "the host.",
        "schema": {"type": ["string", "null"]},
    },
    "aws_conn_id": {
        "label": "AWS connection",
        "description": "With aws: the connection with the AWS credentials. Without it, aws_default.",
        "schema": {"type": ["string", "null"]},
    },
    "key_header": {
        "label": "Key header",
        "description": "The header that carries the key, for example X-Api-Key, if it is not the vendor's.",
        "schema": {"type": ["string", "null"]},
    },
    "key_prefix": {
        "label": "Key prefix",
        "description": "What stands before the key, for example Basic. none for nothing.",
        "schema": {"type": ["string", "null"]},
    },
    "signals": {
        "label": "Signals",
        "description": "For a server with final messages of its own: a JSON object from message or type "
        'pattern to outcome, such as {"Training done.*": "succeeded"}.',
        "schema": {"type": ["object", "null"]},
    },
    "states": {
        "label": "States",
        "description": "For a server with status words of its own: a JSON object from word to succeeded, "
        'failed, cancelled or running, such as {"archived": "succeeded"}.',
        "schema": {"type": ["object", "null"]},
    },
    "headers": {
        "label": "Headers",
        "description": "More headers for each request, as a JSON object. Their values are masked in logs.",
        "schema": {"type": ["object", "null"]},
    },
    "params": {
        "label": "Query parameters",
        "description": "Query parameters for each request, as a JSON object.",
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
    "client_cert": {
        "label": "Client certificate",
        "description": "For a server that asks for one: the path of a PEM file, or a JSON object with the "
        "texts cert, key and password.",
        "schema": {"type": ["string", "object", "null"]},
    },
    "allow_http": {
        "label": "Allow http",
        "description": "Allow sending the key without TLS to a host other than this one.",
        "schema": {"type": ["boolean", "null"], "default": False},
    },
    "dashboard_url": {
        "label": "Dashboard URL",
        "description": "The page of a job for people, with {job_id} for its id. Kept for links to come; "
        "nothing shows it yet.",
        "schema": {"type": ["string", "null"]},
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
