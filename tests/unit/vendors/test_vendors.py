"""The server families: states, words, the last message of a log, hosts."""

from __future__ import annotations

from dataclasses import replace

import pytest

from airflow_ft_events.events import Event
from airflow_ft_events.jobs import JobState, Outcome
from airflow_ft_events.vendors import AUTO, VENDORS, Meaning, Vendor, vendor_for


@pytest.mark.parametrize("status", [None, 7, [], {}, True])
def test_a_status_that_is_not_text_is_unknown(status: object) -> None:
    assert VENDORS["openai"].state_of(status) is JobState.UNKNOWN


WORDS = [
    ("openai", "The job has successfully completed", "succeeded"),
    ("openai", "the JOB has successfully completed.", "succeeded"),
    ("openai", " The job has successfully completed\n", "succeeded"),
    ("openai", "Fine-tuning job successfully completed", "succeeded"),
    ("openai", "The job was stopped due to a cancellation request", "cancelled"),
    ("openai", "New fine-tuned model created: ft:gpt:acme::1", None),
    ("openai", "New fine-tuned model created", None),
    ("openai", "Checkpoint created at step 10 with Snapshot ID: ft:gpt:acme::1", None),
    ("openai", "The job failed due to an invalid training file.", None),
    ("openai", "The job has successfully completed validation", None),
    ("openai", "Note: The job has successfully completed", None),
    ("openai", "Job succeeded.", None),
    ("openai", "Step 3/9: training loss=0.1", "restarted"),
    ("azure", "Job succeeded.", "succeeded"),
    ("azure", "Job canceled.", "cancelled"),
    ("azure", "Job cancelled", "cancelled"),
    ("azure", "Model Evaluation Passed.", "aftermath"),
    ("azure", "Postprocessing started.", "aftermath"),
    ("azure", "Completed results file: file-1", "aftermath"),
    ("azure", "Created results file: file-1", "aftermath"),
    ("azure", "Training tokens billed: 4000", "aftermath"),
    ("azure", "Training hours billed: 0.5", "aftermath"),
    ("azure", "Training started.", None),
    ("nebius", "Training completed successfully", "succeeded"),
    ("nebius", "Dataset 'training' processed successfully", None),
    ("bedrock", "The job has successfully completed", "succeeded"),
    ("together", "Job finished at 2025-04-01T12:00:00Z", "succeeded"),
    ("together", "Training completed for acme/model", None),
]


@pytest.mark.parametrize(("vendor", "message", "meaning"), WORDS)
def test_a_message_means_what_its_vendor_means_by_it(vendor: str, message: str, meaning: str | None) -> None:
    found = VENDORS[vendor].meaning_of(Event({"message": message}, "a"))
    assert found == (meaning and Meaning(meaning))


@pytest.mark.parametrize(
    ("kind", "meaning"),
    [
        ("JOB_COMPLETE", "succeeded"),
        ("JOB_ERROR", "failed"),
        ("JOB_USER_ERROR", "failed"),
        ("JOB_STOPPED", "cancelled"),
        ("JOB_RESTARTED", "restarted"),
        ("TRAINING_COMPLETE", None),
        ("JOB_START", None),
        ("JOB_ERROR_RETRY", None),
        ("job_complete", "succeeded"),
        ("job_error", "failed"),
        ("job_stopped", "cancelled"),
        ("job_restarted", "restarted"),
        ("cancel_requested", None),
        ("early_stopped", None),
    ],
)
def test_together_tells_by_the_type(kind: str, meaning: str | None) -> None:
    found = VENDORS["together"].meaning_of(Event({"type": kind, "message": "Something else"}, "a"))
    assert found == (meaning and Meaning(meaning))


@pytest.mark.parametrize(
    ("vendor", "message", "last"),
    [
        ("openai", "The job has successfully completed", True),
        ("openai", "New fine-tuned model created: x", False),
        ("azure", "Job succeeded.", False),
        ("azure", "Training tokens billed: 4000", True),
        ("azure", "Completed results file: x", False),
        ("nebius", "Training completed successfully", True),
        ("together", "Job finished at noon", True),
    ],
)
def test_the_last_message_of_a_log_is_known(vendor: str, message: str, last: bool) -> None:
    assert VENDORS[vendor].ends_log(Event({"message": message}, "a")) is last


@pytest.mark.parametrize(
    ("message", "model"),
    [
        ("New fine-tuned model created: ft:gpt-4o-mini:acme::9x", "ft:gpt-4o-mini:acme::9x"),
        ("New fine-tuned model created: ", None),
        ("New fine-tuned model created", None),
        ("", None),
    ],
)
def test_the_models_name_is_read_where_the_message_holds_it(message: str, model: str | None) -> None:
    assert VENDORS["openai"].model_in(Event({"message": message}, "a")) == model
    assert VENDORS["together"].model_in(Event({"message": message}, "a")) is None


@pytest.mark.parametrize(
    ("host", "name"),
    [
        ("api.openai.com", "openai"),
        ("eu.api.openai.com", "openai"),
        ("acme.openai.azure.com", "azure"),
        ("ACME.openai.azure.com", "azure"),
        ("acme.cognitiveservices.azure.com", "azure"),
        ("acme.services.ai.azure.com", "azure"),
        ("acme.openai.azure.us", "azure"),
        ("acme.openai.azure.cn", "azure"),
        ("acme.cognitiveservices.azure.us", "azure"),
        ("acme.cognitiveservices.azure.cn", "azure"),
        ("acme.services.ai.azure.us", "azure"),
        ("acme.services.ai.azure.cn", "azure"),
        ("swedencentral.api.cognitive.microsoft.com", "azure"),
        ("usgovvirginia.api.cognitive.azure.us", "azure"),
        ("bedrock-mantle.us-west-2.api.aws", "bedrock"),
        ("BEDROCK-MANTLE.eusc-de-east-1.API.aws", "bedrock"),
        ("bedrock-mantle.api.aws", "openai"),
        ("bedrock-mantle.us-west-2.api.aws.example", "openai"),
        ("bedrock-runtime.us-west-2.amazonaws.com", "openai"),
        ("api.cognitive.microsoft.com.example", "openai"),
        ("api.tokenfactory.nebius.com", "nebius"),
        ("api.studio.nebius.ai", "nebius"),
        ("api.together.ai", "together"),
        ("api.together.xyz", "together"),
        ("openai.azure.com.example", "openai"),
        ("api.together.ai.example", "openai"),
        ("evilnebius.com", "openai"),
        ("", "openai"),
    ],
)
def test_a_vendor_is_recognised_by_its_host(host: str, name: str) -> None:
    assert vendor_for(AUTO, host=host).name == name
    assert vendor_for("", host=host).name == name


def test_a_named_vendor_counts_more_than_the_host() -> None:
    assert vendor_for(" NEBIUS ", host="api.openai.com").name == "nebius"
    with pytest.raises(ValueError, match="unknown vendor 'acme'"):
        vendor_for("acme")


@pytest.mark.parametrize("vendor", VENDORS.values(), ids=VENDORS.keys())
def test_only_azure_has_an_api_version(vendor: Vendor) -> None:
    if vendor.name == "azure":
        assert vendor.root("https://a.example", api_version="1") == (
            "https://a.example/openai",
            {"api-version": "1"},
        )
    else:
        with pytest.raises(ValueError, match="Azure"):
            vendor.root("https://a.example", api_version="1")


def test_a_servers_own_words_come_before_the_vendors() -> None:
    vendor = VENDORS["openai"].with_signals(
        {"The job has successfully completed": "failed", r"MODEL_READY_\d+": "succeeded"}
    )
    assert vendor.name == "openai"
    assert vendor.meaning_of(Event({"message": "The job has successfully completed"}, "a")) is Meaning.FAILED
    assert vendor.meaning_of(Event({"type": "model_ready_7"}, "a")) is Meaning.SUCCEEDED
    assert vendor.meaning_of(Event({"type": "MODEL_READY_"}, "a")) is None
    assert VENDORS["openai"].with_signals({}) == VENDORS["openai"]


def test_a_custom_vendor_can_be_made_from_another() -> None:
    vendor = replace(VENDORS["openai"], name="acme", jobs_path="/jobs")
    assert vendor.state_of("succeeded") is JobState.SUCCEEDED


def test_together_jobs_have_the_model_and_the_tokens_under_names_of_their_own() -> None:
    job = {"id": "ft-1", "model_output_name": "acme/llama-1", "token_count": 7, "status": "completed"}
    read = VENDORS["together"].read_job(job, job_id="ft-1")
    assert (read.fine_tuned_model, read.trained_tokens, read.ended) == ("acme/llama-1", 7, Outcome.SUCCEEDED)
    assert read.raw is job
    theirs = VENDORS["openai"].read_job(job, job_id="ft-1")
    assert (theirs.fine_tuned_model, theirs.trained_tokens) == (None, None)


@pytest.mark.parametrize(
    ("host", "scope"),
    [
        ("acme.openai.azure.com", "https://cognitiveservices.azure.com/.default"),
        ("127.0.0.1", "https://cognitiveservices.azure.com/.default"),
        ("ACME.openai.azure.US", "https://cognitiveservices.azure.us/.default"),
    ],
)
def test_azure_takes_tokens_for_the_scope_of_its_cloud(host: str, scope: str) -> None:
    assert VENDORS["azure"].token_scope(host) == scope


@pytest.mark.parametrize(
    ("host", "scope"),
    [
        ("acme.services.ai.azure.com", "https://ai.azure.com/.default"),
        ("acme.services.ai.azure.us", "https://ai.azure.us/.default"),
        ("gateway.example", "https://ai.azure.com/.default"),
    ],
)
def test_a_project_of_foundry_takes_tokens_of_its_own(host: str, scope: str) -> None:
    assert VENDORS["azure"].token_scope(host, path="/api/projects/tuning") == scope


@pytest.mark.parametrize("name", VENDORS)
def test_only_bedrock_takes_keys_of_an_aws_identity_and_knows_its_region(name: str) -> None:
    vendor, host = VENDORS[name], "bedrock-mantle.eu-central-1.api.aws"
    assert vendor.takes_aws_keys == (name == "bedrock")
    assert vendor.region_of(host) == ("eu-central-1" if name == "bedrock" else None)
    assert vendor.region_of("gateway.example") is None


@pytest.mark.parametrize("name", ["openai", "nebius", "together", "bedrock"])
def test_the_other_vendors_take_keys_only(name: str) -> None:
    assert VENDORS[name].token_scope("acme.openai.azure.com") is None
