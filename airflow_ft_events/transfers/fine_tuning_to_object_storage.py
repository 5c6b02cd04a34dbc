"""FineTuningEventsToObjectStorageOperator: keeps a job's whole log in object storage."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import timedelta
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, Literal

from airflow.providers.common.compat.sdk import conf

from airflow_ft_events.archive.layout import INFER, check_path, layout_of
from airflow_ft_events.connection.carried import carried
from airflow_ft_events.errors import FineTuningInputError
from airflow_ft_events.operators.settled import SettledLogOperator
from airflow_ft_events.parameters import DEFAULT_CONN_ID, check_job_id, is_template

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context, ObjectStoragePath

    from airflow_ft_events.api.bookmark import Bookmark
    from airflow_ft_events.api.pages import Pages
    from airflow_ft_events.api.paging import EventFeed
    from airflow_ft_events.archive.manifest import JobFacts, Manifest
    from airflow_ft_events.archive.writer import ArchiveWriter
    from airflow_ft_events.events import Event
    from airflow_ft_events.hooks.fine_tuning import FineTuningHook
    from airflow_ft_events.jobs import Job

OVERWRITE = ("replace", "keep", "error")


class FineTuningEventsToObjectStorageOperator(SettledLogOperator):
    """
    Archive a job's whole log: oldest first, every event once, verbatim, with a manifest beside it.

    :param job_id: the job (templated).
    :param path: the archive's file (templated): an absolute local path, or anything that Airflow's
        ``ObjectStoragePath`` accepts, such as ``s3://bucket/logs/{{ params.job_id }}.jsonl``.
    :param conn_id: connection of type ``fine_tuning``, ``openai`` or ``http`` (templated); default
        ``fine_tuning_default``.
    :param storage_conn_id: connection of the storage (templated); default the part before an ``@`` in the
        path, or none.
    :param file_format: ``jsonl`` (default) or ``parquet`` (extra ``parquet``).
    :param compression: ``infer`` (default: gzip where the path ends in ``.gz``; snappy for parquet),
        ``gzip``, ``snappy`` or ``zstd`` (parquet), or None.
    :param overwrite: what happens to an existing archive: ``replace`` (default), ``keep`` leaves a complete
        one and reads nothing, ``error`` fails unless it contains exactly the same.
    :param incremental: write only what is new since the last run, as an additional file in ``{path}.parts/``;
        default False.
    :param report: write an HTML page with the training figure beside the log (extra ``report``); default
        False.
    :param settle: seconds, or a timedelta, after a job's end until its log counts as complete, 0 to 86,400;
        default 120. A running job's log is archived immediately, and counts as incomplete.
    :param deferrable: defer while a log settles, if that takes more than 10 s; default from ``[operators]
        default_deferrable``.
    :returns: the manifest: ``job_id``, ``vendor``, ``outcome``, ``complete``, ``path``, ``format``,
        ``count``, ``bytes``, ``sha256``, ``first_event``, ``last_event``, ``parts``, …
    """

    template_fields: Sequence[str] = ("job_id", "conn_id", "path", "storage_conn_id")
    ui_color = "#ece4f0"

    def __init__(
        self,
        *,
        job_id: str,
        path: str | ObjectStoragePath,
        conn_id: str = DEFAULT_CONN_ID,
        storage_conn_id: str | None = None,
        file_format: Literal["jsonl", "parquet"] = "jsonl",
        compression: str | None = INFER,
        overwrite: Literal["replace", "keep", "error"] = "replace",
        incremental: bool = False,
        report: bool = False,
        settle: float | timedelta = 120,
        deferrable: bool = conf.getboolean("operators", "default_deferrable", fallback=False),
        **kwargs: Any,
    ) -> None:
        super().__init__(job_id=job_id, conn_id=conn_id, settle=settle, deferrable=deferrable, **kwargs)
        # an ObjectStoragePath becomes text, including its connection's id: templates need text
        self.path = path if isinstance(path, str) or is_template(path) else _text_of(path)
        self.storage_conn_id = storage_conn_id
        self.file_format = file_format
        self.compression = compression
        self.overwrite = overwrite
        self.incremental = incremental
        self.report = report
        if overwrite not in OVERWRITE:
            raise FineTuningInputError(
                f"overwrite is {overwrite!r}; it must be one of {', '.join(OVERWRITE)}."
            )
        if incremental and overwrite != "replace":
            raise FineTuningInputError(
                f"incremental=True adds to an existing archive, which contradicts overwrite={overwrite!r}: "
                "give only one of them."
            )
        known = self.path if isinstance(self.path, str) else "{{ }}"
        if not is_template(known):
            check_path(known)
        layout_of(known, file_format=file_format, compression=compression)

    def execute(self, context: Context) -> Any:
        """
        Wait until the log of an ended job has settled, then archive it.

        :returns: the manifest.
        :raises FineTuningArchiveError: something at the path must not be replaced, or the archive is
            damaged.
        :raises FineTuningApiError: the job's events could not be read.
        """
        with self._writer() as writer:
            if (kept := writer.kept()) is not None:
                self.log.info(
                    "Job %s: its complete archive of %d events is kept (overwrite='keep').",
                    self.job_id,
                    kept.count,
                )
                return carried(kept.as_dict())
        return super().execute(context)

    def _writer(self) -> ArchiveWriter:
        # what only a running task needs is not imported when a Dag is parsed
        from airflow_ft_events.archive.reader import StoredArchive
        from airflow_ft_events.archive.writer import ArchiveWriter

        job_id, path = check_job_id(self.job_id), check_path(self.path)
        layout = layout_of(path, file_format=self.file_format, compression=self.compression)
        if layout.file_format == "parquet":
            from airflow_ft_events.archive.parquet import arrow

            arrow()
        if self.report and find_spec("plotly") is None:
            raise FineTuningInputError(
                "report=True needs plotly, which is not installed where this task runs. Install "
                "airflow-ft-events[report] there, or leave report out."
            )
        return ArchiveWriter(
            StoredArchive.at(path, storage_conn_id=self.storage_conn_id or None, job_id=job_id),
            path=path,
            layout=layout,
            job_id=job_id,
            incremental=self.incremental,
            overwrite=self.overwrite,
        )

    def _read(
        self,
        context: Context,
        hook: FineTuningHook,
        job: Job | None,
        *,
        settled: bool,
        must_end: bool = False,
    ) -> dict[str, Any] | None:
        def read_log(bookmark: Bookmark | None, pages: Pages) -> EventFeed | None:
            feed = hook.read_events(
                self.job_id,
                newer_than=bookmark,
                pages=pages,
                must_end=must_end,
                job_shown=job is not None,
            )
            return None if must_end and not hook.shows_end(feed) else feed

        def make_report(events: Iterator[Event], manifest: Manifest) -> str:
            from airflow_ft_events.api.metrics import merged
            from airflow_ft_events.report.figure import report_page

            told = job.fields if job else {}
            names = ("fine_tuned_model", "trained_tokens", "finished_at", "error")
            return report_page(
                merged(events, metrics), about=manifest.as_dict() | {name: told.get(name) for name in names}
            )

        with self._writer() as writer:
            new = writer.read(read_log)
            if new is None:
                return None
            facts = self._facts(hook, job, writer, settled=settled)
            metrics = self._metrics(hook, writer)
            manifest = writer.write(facts, metrics=metrics, make_report=make_report if self.report else None)
        self.log.info(
            "Job %s: archived %d events (%d read now) at %s; %s.",
            self.job_id,
            manifest.count,
            new,
            manifest.path,
            "the log is complete" if facts.complete else "the log is not complete yet",
        )
        found: dict[str, Any] = hook.redact.json(manifest.as_dict())
        return found

    def _metrics(self, hook: FineTuningHook, writer: ArchiveWriter) -> list[dict[str, Any]]:
        """Read the numbers that the server keeps beside the events, where those have none."""
        if hook.settings.vendor.metrics_path is None or any(event.metrics for event in writer.events()):
            return []
        return hook.metrics_events(self.job_id)

    def _facts(
        self, hook: FineTuningHook, job: Job | None, writer: ArchiveWriter, *, settled: bool
    ) -> JobFacts:
        from airflow_ft_events.archive.manifest import JobFacts

        # if the server shows no job, its events decide, as they do in a wait
        ended = hook.how_it_ended(self.job_id, job, writer.events() if job is None else ()).outcome
        return JobFacts(
            job_id=self.job_id,
            vendor=hook.settings.vendor.name,
            outcome=ended.outcome.value if ended else None,
            status=job.status if job else None,
            complete=ended is not None and (settled or job is None),
        )


def _text_of(path: object) -> str:
    return "" if path is None else str(path)
