"""A server that answers after a fixed time: every job runs, and has a new event every second."""

from __future__ import annotations

import asyncio
import json
import sys
import time

from aiohttp import web

JOBS_PATH = "/v1/fine_tuning/jobs"
STARTED = int(time.time())


def _event(job_id: str, at: int) -> bytes:
    step = at - STARTED + 1000
    return json.dumps(
        {
            "object": "fine_tuning.job.event",
            "id": f"ftevent-{job_id}-{at}",
            "created_at": at,
            "level": "info",
            "message": f"Step {step}/9000: training loss=0.42",
            "type": "metrics",
            "data": {"step": step, "total_steps": 9000, "train_loss": 0.42, "train_mean_token_accuracy": 0.9},
        }
    ).encode()


def _job(job_id: str) -> dict[str, object]:
    return {
        "id": job_id,
        "object": "fine_tuning.job",
        "status": "running",
        "error": {},
        "created_at": STARTED,
    }


def main(answer_after: float, jobs: int) -> None:
    """
    Serve until the process is ended.

    :param answer_after: seconds.
    :param jobs: how many jobs there are.
    """
    names = [f"ftjob-{number}" for number in range(jobs)]
    counted = {"events": 0, "job": 0, "list": 0, "batch": 0}

    async def handle(request: web.BaseRequest) -> web.StreamResponse:
        path, query = request.path, request.query
        if path == "/counted":
            return web.json_response(counted)
        if answer_after:
            await asyncio.sleep(answer_after)
        if path.endswith("/events"):
            counted["events"] += 1
            now, job_id = int(time.time()), path.split("/")[-2]
            limit = int(query.get("limit", 20))
            events = b",".join(_event(job_id, at) for at in range(now, now - limit, -1))
            return _json(b'{"object":"list","data":[' + events + b'],"has_more":true}')
        if path == JOBS_PATH:
            counted["list"] += 1
            limit, after = int(query.get("limit", 20)), query.get("after")
            first = names.index(after) + 1 if after else 0
            page = [_job(name) for name in names[first : first + limit]]
            more = first + limit < len(names)
            return _json(json.dumps({"object": "list", "data": page, "has_more": more}).encode())
        if "/batches/" in path:
            counted["batch"] += 1
            return _json(json.dumps(_batch(path.rpartition("/")[2])).encode())
        counted["job"] += 1
        return _json(json.dumps(_job(path.rpartition("/")[2])).encode())

    async def serve() -> None:
        runner = web.ServerRunner(web.Server(handle))
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0, backlog=4096)
        await site.start()
        port = runner.addresses[0][1]
        print(f"http://127.0.0.1:{port}/v1", flush=True)
        await asyncio.Event().wait()

    asyncio.run(serve())


def _batch(batch_id: str) -> dict[str, object]:
    return {
        "id": batch_id,
        "object": "batch",
        "status": "in_progress",
        "endpoint": "/v1/chat/completions",
        "input_file_id": "file-1",
        "completion_window": "24h",
        "created_at": STARTED,
    }


def _json(body: bytes) -> web.Response:
    return web.Response(body=body, content_type="application/json")


if __name__ == "__main__":
    main(float(sys.argv[1]), int(sys.argv[2]))
