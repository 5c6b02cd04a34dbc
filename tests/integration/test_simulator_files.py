"""Files of the simulator: uploaded ones, the results of jobs, and the limits of both."""

from __future__ import annotations

import csv
from typing import Any

import openai
import pytest
import requests

from airflow_ft_events.simulator import DIALECTS, Simulator
from airflow_ft_events.simulator.files import step_csv

LINES = b'{"messages": []}\n' * 10


def call(sim: Simulator, path: str, *, method: str = "GET", **options: Any) -> requests.Response:
    headers = {"Authorization": f"Bearer {sim.api_key}", "api-key": sim.api_key}
    params = {**options.pop("params", {})}
    if sim.dialect.api_version:
        params["api-version"] = sim.dialect.api_version
    url = f"{sim.base_url}{path}"
    return requests.request(method, url, headers=headers, params=params, timeout=20, **options)


def upload(sim: Simulator, content: bytes = LINES, *, purpose: str = "fine-tune") -> requests.Response:
    path = "/files/upload" if sim.vendor == "together" else "/files"
    form = {"files": {"file": ("train.jsonl", content)}, "data": {"purpose": purpose}}
    return call(sim, path, method="POST", **form)


@pytest.mark.parametrize("vendor", DIALECTS)
def test_a_file_is_uploaded_listed_read_trained_with_and_deleted(vendor: str, served: Any) -> None:
    sim = served([], vendor=vendor)
    content = bytes(range(256)) * 9 + b"\r\n--boundary\r\n"
    answer = upload(sim, content)
    assert answer.status_code == (201 if vendor == "azure" else 200)
    file = answer.json()
    assert (file["bytes"], file["filename"], file["purpose"]) == (len(content), "train.jsonl", "fine-tune")
    assert call(sim, f"/files/{file['id']}").json() == file
    assert call(sim, f"/files/{file['id']}/content").content == content == sim.read_file(file["id"])
    assert call(sim, "/files").json()["data"] == [file]
    order = {"model": "m", "training_file": file["id"]}
    assert call(sim, sim.dialect.jobs_path, method="POST", json=order).ok
    assert call(sim, f"/files/{file['id']}", method="DELETE").json()["deleted"] is True
    for path in ("", "/content"):
        assert call(sim, f"/files/{file['id']}{path}").status_code == 404
    assert call(sim, sim.dialect.jobs_path, method="POST", json=order).status_code == 400


def test_together_takes_a_file_in_three_requests(served: Any) -> None:
    sim = served([], vendor="together")
    form = {"purpose": (None, "fine-tune"), "file_name": (None, "a.jsonl"), "file_type": (None, "jsonl")}
    announced = call(sim, "/files", method="POST", files=form, allow_redirects=False)
    file_id = announced.headers["X-Together-File-Id"]
    assert announced.status_code == 302
    assert call(sim, f"/files/{file_id}").json()["Processed"] is False
    order = {"model": "m", "training_file": file_id}
    assert call(sim, "/fine-tunes", method="POST", json=order).status_code == 400
    # where a file is sent to needs no key: the address itself is the permission
    assert requests.put(announced.headers["Location"], data=LINES, timeout=20).status_code == 200
    assert requests.put(announced.headers["Location"], data=LINES, timeout=20).status_code == 403
    checked = call(sim, f"/files/{file_id}/preprocess", method="POST").json()
    assert (checked["Processed"], checked["LineCount"], checked["FileType"]) == (True, 10, "jsonl")
    assert call(sim, "/fine-tunes", method="POST", json=order).ok


def test_a_training_file_must_have_been_uploaded_for_training(served: Any) -> None:
    sim = served([])
    other = upload(sim, purpose="batch").json()["id"]
    good = upload(sim).json()["id"]
    orders = [
        {"training_file": "file-none"},
        {"training_file": other},
        {"training_file": good, "validation_file": "file-none"},
    ]
    for order in orders:
        answer = call(sim, "/fine_tuning/jobs", method="POST", json={"model": "m", **order})
        wrong = "validation_file" if "validation_file" in order else "training_file"
        assert (answer.status_code, answer.json()["error"]["param"]) == (400, wrong)
    assert sim.job_ids == []


@pytest.mark.parametrize(
    ("form", "param"),
    [
        ({"files": {"file": ("a", b"x")}}, "purpose"),
        ({"files": {"file": ("a", b"x")}, "data": {"purpose": "fun"}}, "purpose"),
        ({"files": {"purpose": (None, "fine-tune")}}, "file"),
        ({"data": b"x"}, "purpose"),
        ({"data": b"x", "headers": {"Content-Type": "multipart/form-data"}}, None),
        (
            {
                "data": b"--b\r\n" + b"x" * 9000,
                "headers": {"Content-Type": "multipart/form-data; boundary=b"},
            },
            None,
        ),
        ({"data": b"--b\r\n\r\n", "headers": {"Content-Type": "multipart/form-data; boundary=b"}}, None),
    ],
)
def test_an_upload_that_lacks_something_is_refused(form: dict[str, Any], param: str, served: Any) -> None:
    sim = served([])
    headers = {"Authorization": f"Bearer {sim.api_key}", **form.pop("headers", {})}
    answer = requests.post(f"{sim.base_url}/files", headers=headers, timeout=20, **form)
    assert answer.status_code == 400
    if param:
        assert answer.json()["error"]["param"] == param
    assert call(sim, "/files").json()["data"] == []


def test_the_room_for_files_is_limited(served: Any) -> None:
    sim = served([])
    sim.files.most_files, sim.files.most_bytes = 2, 100
    assert upload(sim, b"x" * 101).status_code == 400
    first = upload(sim, b"x" * 50).json()["id"]
    assert upload(sim, b"x" * 50).ok
    assert "2 files" in upload(sim, b"").json()["error"]["message"]
    call(sim, f"/files/{first}", method="DELETE")
    assert upload(sim, b"").ok


def test_files_are_listed_newest_first_in_pages_and_by_purpose(served: Any, moment: Any) -> None:
    sim = served([])
    ids = []
    for purpose in ("fine-tune", "batch", "fine-tune"):
        ids.append(sim.add_file(b"", purpose=purpose))
        moment.now += 1
    page = call(sim, "/files", params={"limit": 2}).json()
    assert [file["id"] for file in page["data"]] == [ids[2], ids[1]]
    assert (page["has_more"], page["first_id"], page["last_id"]) == (True, ids[2], ids[1])
    rest = call(sim, "/files", params={"after": ids[1]}).json()
    assert ([file["id"] for file in rest["data"]], rest["has_more"]) == ([ids[0]], False)
    found = call(sim, "/files", params={"purpose": "batch", "order": "asc"}).json()
    assert [file["id"] for file in found["data"]] == [ids[1]]
    assert call(sim, "/files", params={"after": "file-none"}).status_code == 404
    assert call(sim, "/files", params={"limit": "0"}).status_code == 400


@pytest.mark.parametrize("vendor", ["openai", "azure-v1"])
def test_a_success_leaves_a_file_with_the_numbers_of_each_step(vendor: str, served: Any, moment: Any) -> None:
    sim = served(["succeeded", "failed"], vendor=vendor)
    assert call(sim, "/files").json()["data"] == []
    moment.now += 1000
    (file_id,) = sim.get_job(sim.job_id)["result_files"]
    (listed,) = call(sim, "/files").json()["data"]
    assert (listed["id"], listed["purpose"]) == (file_id, "fine-tune-results")
    content = call(sim, f"/files/{file_id}/content")
    assert content.headers["Content-Type"].startswith("text/csv")
    rows = list(csv.DictReader(content.text.splitlines()))
    assert content.text.startswith("step,train_loss,train_accuracy,valid_loss,valid_mean_token_accuracy")
    metrics = [event["data"] for event in sim.list_events(sim.job_id) if event["type"] == "metrics"]
    assert [(int(row["step"]), float(row["train_loss"])) for row in rows] == [
        (data["step"], data["train_loss"]) for data in metrics
    ]
    assert call(sim, f"/files/{file_id}", method="DELETE").ok
    assert call(sim, f"/files/{file_id}").status_code == 404


def test_a_recorded_job_leaves_its_own_results(served: Any, moment: Any) -> None:
    log = {
        "events": [
            {"message": "Step 1", "type": "metrics", "data": {"step": 1, "train_mean_reward": 0.5}},
            {"message": "The job has successfully completed"},
        ],
        "job": {"id": "ftjob-1", "status": "succeeded", "result_files": ["file-of-then"]},
    }
    sim = served(log=log)
    moment.now += 1000
    assert b"train_mean_reward\n1,,,,,0.5\n" in sim.read_file("file-of-then")
    with pytest.raises(KeyError):
        sim.read_file("file-none")


def test_what_is_no_number_is_left_out_of_the_results() -> None:
    events = [
        None,
        {"data": None},
        {"data": {"step": "1"}},
        {"data": {"step": True}},
        {"data": {"step": 2, "train_loss": None, "more": {"a": 1}, "total_steps": 9}},
    ]
    assert step_csv(events).splitlines()[1:] == [b"2,,,,"]


def test_the_official_client_uploads_reads_and_deletes(served: Any) -> None:
    sim = served([])
    with openai.OpenAI(base_url=sim.base_url, api_key=sim.api_key, max_retries=0) as client:
        file = client.files.create(file=("a.jsonl", LINES), purpose="fine-tune")
        assert [each.id for each in client.files.list()] == [file.id]
        assert client.files.retrieve(file.id).bytes == len(LINES)
        assert client.files.content(file.id).content == LINES
        assert client.files.delete(file.id).deleted
        with pytest.raises(openai.NotFoundError):
            client.files.retrieve(file.id)
