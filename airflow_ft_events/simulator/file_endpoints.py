"""The routes of files: upload, list, read, content, delete; and Together's upload in three requests."""

from __future__ import annotations

from dataclasses import replace

from airflow_ft_events.simulator.asked import Asked, Content, Endpoint, Found, limit_of
from airflow_ft_events.simulator.dialects import Problem
from airflow_ft_events.simulator.files import FilesFullError, StoredFile
from airflow_ft_events.simulator.jobs import encode
from airflow_ft_events.simulator.state import ServerState

_DEFAULT_LIMIT = 10_000


class FileEndpoints:
    """
    The routes of files; called with the server's lock held.

    :param state: the server's files, clock and settings.
    """

    def __init__(self, state: ServerState) -> None:
        self._state = state

    def routes(self) -> dict[str, Endpoint]:
        """Return what answers each route."""
        return {
            "upload": self._upload,
            "files": self._list,
            "file": self._read,
            "content": self._content,
            "delete": self._delete,
            "receive": self._receive,
            "checked": self._read,
        }

    def _upload(self, asked: Asked) -> Found:
        dialect, body = self._state.dialect, asked.body
        if body.broken:
            return dialect.problem(400, body.broken)
        purpose, sent = body.fields.get("purpose"), body.files.get("file")
        if not purpose:
            return dialect.problem(
                400,
                "Missing required parameter: 'purpose'.",
                param="purpose",
                code="missing_required_parameter",
            )
        if dialect.purposes and purpose not in dialect.purposes:
            known = ", ".join(dialect.purposes)
            return dialect.problem(
                400,
                f"Invalid value for 'purpose': use one of {known}.",
                param="purpose",
                code="invalid_value",
            )
        name = body.fields.get("file_name") or (sent.name if sent else "")
        announced = sent is None and "receive" in {
            route for methods in dialect.file_routes.values() for route in methods.values()
        }
        if not name or (sent is None and not announced):
            return dialect.problem(
                400, "Missing required parameter: 'file'.", param="file", code="missing_required_parameter"
            )
        try:
            file = self._state.files.add(
                filename=name,
                purpose=purpose,
                created_at=int(asked.now),
                content=sent.content if sent else None,
            )
        except FilesFullError as error:
            return dialect.problem(400, str(error))
        if sent is not None:
            return Content(body=encode(dialect.file(file)), status=dialect.created_status)
        where = f"{asked.url.removesuffix('/')}/{file.file_id}/upload"
        return Content(body=b"", status=302, headers={"Location": where, "X-Together-File-Id": file.file_id})

    def _receive(self, asked: Asked) -> Found:
        dialect, file = self._state.dialect, self._find(asked)
        if isinstance(file, Problem):
            return file
        if file.content is not None:
            return dialect.problem(403, "The file has already been sent.")
        try:
            self._state.files.keep(replace(file, content=asked.body.raw))
        except FilesFullError as error:
            return dialect.problem(400, str(error))
        return Content(body=b"")

    def _list(self, asked: Asked) -> Found:
        state, query = self._state, asked.query
        dialect = state.dialect
        limit = limit_of(dialect, query, default=_DEFAULT_LIMIT)
        if isinstance(limit, Problem):
            return limit
        files = state.all_files(now=asked.now)
        if query.get("order") != "asc":
            files.reverse()
        start = 0
        if dialect.pages and (after := query.get("after")) is not None:
            ids = [file.file_id for file in files]
            if after not in ids:
                return dialect.no_such_cursor(after)
            start = ids.index(after) + 1
        purpose = query.get("purpose")
        found = [file for file in files[start:] if purpose in (None, file.purpose)]
        shown = found[:limit]
        ends = (shown[0].file_id, shown[-1].file_id) if shown else None
        items = [encode(dialect.file(file)) for file in shown]
        return dialect.listing(items, has_more=len(found) > limit, ends=ends)

    def _read(self, asked: Asked) -> Found:
        file = self._find(asked)
        return file if isinstance(file, Problem) else encode(self._state.dialect.file(file))

    def _content(self, asked: Asked) -> Found:
        file = self._find(asked)
        if isinstance(file, Problem):
            return file
        kind = "text/csv" if file.filename.endswith(".csv") else "application/octet-stream"
        return Content(body=file.content or b"", headers={"Content-Type": kind})

    def _delete(self, asked: Asked) -> Found:
        file = self._find(asked)
        if isinstance(file, Problem):
            return file
        self._state.files.delete(file.file_id)
        return encode({"id": file.file_id, "object": "file", "deleted": True})

    def _find(self, asked: Asked) -> StoredFile | Problem:
        file_id = asked.route.file_id or ""
        return self._state.find_file(file_id, now=asked.now) or self._state.dialect.no_such_file(file_id)
