"""Clients create, upload, follow and fetch against the simulator; the sensor ends with what they saw."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import openai
import pytest

from airflow_ft_events.simulator import ReceivedRequest, Simulator
from tests.environments import LITELLM, TOGETHER, python_with

LINES = b'{"messages": [{"role": "user", "content": "a"}]}\n' * 10

TOGETHER_PROGRAM = """
import json, pathlib, sys
from together import Together

base_url, api_key, folder = sys.argv[1:]
client = Together(base_url=base_url, api_key=api_key, max_retries=0)
path = pathlib.Path(folder, "train.jsonl")
path.write_bytes(LINES)
file = client.files.upload(file=str(path), purpose="fine-tune", check=False)
order = {"model": "base/m-8B", "training_file": file.id}
job = client.fine_tuning.create(**order, suffix="mine", n_epochs=2, lora=True)
seen = [job.status]
while seen[-1] not in ("completed", "error", "cancelled"):
    seen.append(client.fine_tuning.retrieve(job.id).status)
metrics = client.fine_tuning.list_metrics(job.id).metrics
other = client.fine_tuning.create(**order)
print(json.dumps({
    "job": job.id,
    "seen": list(dict.fromkeys(seen)),
    "model": client.fine_tuning.retrieve(job.id).model_output_name,
    "steps": [row["train/global_step"] for row in metrics if "train/loss" in row],
    "sampled": len(client.fine_tuning.list_metrics(job.id, resolution=3).metrics),
    "checkpoints": [each.step for each in client.fine_tuning.list_checkpoints(job.id).data],
    "content": client.files.content(file.id).read().decode(),
    "cancelled": client.fine_tuning.cancel(other.id).status,
    "files": [each.id for each in client.files.list().data] == [file.id],
    "deleted": client.files.delete(file.id).deleted,
}))
"""
LITELLM_PROGRAM = """
import json, sys
import litellm

base_url, api_key, _ = sys.argv[1:]
server = {"custom_llm_provider": "openai", "api_base": base_url, "api_key": api_key}
file = litellm.create_file(file=("train.jsonl", LINES), purpose="fine-tune", **server)
order = {"model": "gpt-4o-mini", "training_file": file.id}
job = litellm.create_fine_tuning_job(**order, suffix="mine", **server)
seen = [job.status]
while seen[-1] not in ("succeeded", "failed", "cancelled"):
    last = litellm.retrieve_fine_tuning_job(job.id, **server)
    seen.append(last.status)
other = litellm.create_fine_tuning_job(**order, **server)
print(json.dumps({
    "job": job.id,
    "seen": list(dict.fromkeys(seen)),
    "model": last.fine_tuned_model,
    "results": litellm.file_content(last.result_files[0], **server).text,
    "listed": {each.id for each in litellm.list_fine_tuning_jobs(**server).data} == {job.id, other.id},
    "cancelled": litellm.cancel_fine_tuning_job(other.id, **server).status,
    "deleted": litellm.file_delete(file.id, **server).deleted,
}))
"""


@pytest.fixture
def sim(simulated: Any, connect: Any, clock: Any) -> Simulator:
    """A server without jobs whose time goes on by 20 s whenever somebody asks for a job."""
    made: Simulator = simulated([], created_jobs={"steps": 30})

    def time_passes(request: ReceivedRequest) -> None:
        if request.route == "job":
            clock.moment += 20

    made.fault = time_passes
    connect(made)
    return made


@pytest.fixture
def run(
    project: Path, pip_environment: dict[str, str], sim: Simulator, tmp_path: Path
) -> Callable[[str, str, str], dict[str, Any]]:
    """Run a client's program against the simulator, and return what it prints."""

    def run_program(requirement: str, program: str, base_url: str) -> dict[str, Any]:
        python = python_with(requirement, project=project, environment=pip_environment)
        program = program.replace("LINES", repr(LINES))
        done = subprocess.run(
            [python, "-W", "ignore", "-c", program, base_url, sim.api_key, str(tmp_path)],
            # litellm else reads a list of prices from the net when it is imported
            env={"PATH": os.environ["PATH"], "HOME": str(tmp_path), "LITELLM_LOCAL_MODEL_COST_MAP": "True"},
            capture_output=True,
            text=True,
            timeout=240,
            check=False,
        )
        assert done.returncode == 0, done.stderr[-4000:]
        found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
        return found

    return run_program


@pytest.mark.parametrize("vendor", ["openai", "azure", "azure-v1", "nebius"])
def test_the_openai_client_creates_follows_and_fetches(
    vendor: str, sim: Simulator, clock: Any, follow: Any
) -> None:
    options = {"api_key": sim.api_key, "max_retries": 0}
    if vendor == "azure":
        endpoint = sim.base_url.removesuffix("/openai")
        made: openai.OpenAI = openai.AzureOpenAI(azure_endpoint=endpoint, api_version="2024-10-21", **options)
    else:
        made = openai.OpenAI(base_url=sim.base_url, **options)
    with made as client:
        jobs = client.fine_tuning.jobs
        file = client.files.create(file=("train.jsonl", LINES), purpose="fine-tune")
        order: Any = {"model": "gpt-4o-mini", "training_file": file.id}
        method: Any = {"type": "supervised", "supervised": {"hyperparameters": {"n_epochs": 2}}}
        job = jobs.create(**order, suffix="mine", seed=7, metadata={"team": "search"}, method=method)
        assert (job.training_file, job.seed, job.metadata) == (file.id, 7, {"team": "search"})
        assert job.hyperparameters.n_epochs == 2
        for wrong, named in (({"suffix": "x" * 65}, "suffix"), ({"training_file": "file-none"}, "file-none")):
            with pytest.raises(openai.BadRequestError) as refused:
                jobs.create(**order | wrong)
            assert named in refused.value.response.text
        while job.status not in ("succeeded", "failed", "cancelled", "canceled"):
            job = jobs.retrieve(job.id)
        assert job.status == "succeeded"
        assert "mine" in (job.fine_tuned_model or "")
        newest = next(iter(jobs.checkpoints.list(job.id)))
        assert newest.fine_tuned_model_checkpoint == job.fine_tuned_model
        for result in job.result_files:
            assert client.files.content(result).text.startswith("step,train_loss,")
        other = jobs.create(**order)
        if vendor != "nebius":
            assert jobs.pause(other.id).status == "paused"
            assert jobs.resume(other.id).status not in ("paused", "failed")
        assert jobs.cancel(other.id).status in ("cancelled", "canceled")
        assert client.files.delete(file.id).deleted
    assert follow("poke", job.id)["outcome"] == "succeeded"
    assert follow("poke", other.id, raise_on_failure=False)["outcome"] == "cancelled"


@pytest.mark.timeout(600)
@pytest.mark.parametrize("vendor", ["together"])
def test_the_together_client_creates_follows_and_fetches(sim: Simulator, run: Any, follow: Any) -> None:
    told = run(TOGETHER, TOGETHER_PROGRAM, sim.base_url.removesuffix("/v1"))
    assert told["seen"] == ["pending", "queued", "running", "compressing", "uploading", "completed"]
    assert told["model"].startswith("simulated/m-8B-mine-")
    assert (told["steps"], told["sampled"]) == (list(range(1, 31)), 3)
    assert told["checkpoints"] == [30]
    assert told["content"].encode() == LINES
    assert told["cancelled"] == "cancel_requested"
    assert told["files"]
    assert told["deleted"]
    assert follow("poke", told["job"])["outcome"] == "succeeded"


@pytest.mark.timeout(600)
def test_litellm_creates_follows_and_fetches(sim: Simulator, run: Any, follow: Any) -> None:
    told = run(LITELLM, LITELLM_PROGRAM, sim.base_url)
    assert told["seen"] == ["validating_files", "running", "succeeded"]
    assert told["model"].startswith("ft:gpt-4o-mini:simulated:mine:")
    assert told["results"].startswith("step,train_loss,train_accuracy")
    assert told["results"].count("\n") == 31
    assert told["cancelled"] == "cancelled"
    assert told["listed"]
    assert told["deleted"]
    assert follow("poke", told["job"])["outcome"] == "succeeded"
