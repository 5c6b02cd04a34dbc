"""Layout: the format of an archive's files; checked when the Dag is parsed."""

from __future__ import annotations

from dataclasses import dataclass

from airflow_ft_events.connection.redaction import redacted_path
from airflow_ft_events.errors import FineTuningInputError

FORMATS = ("jsonl", "parquet")
INFER = "infer"
_COMPRESSIONS: dict[str, tuple[str | None, ...]] = {
    "jsonl": (None, "gzip"),
    "parquet": (None, "snappy", "gzip", "zstd"),
}
_ENDINGS = {".jsonl": "jsonl", ".ndjson": "jsonl", ".json": "jsonl", ".parquet": "parquet"}
_NO_FOLDERS = ("file", "local", "memory")
"""Protocols whose paths do not begin with a bucket or a host."""


@dataclass(frozen=True, slots=True)
class Layout:
    """
    The format of an archive's files.

    :param file_format: ``jsonl`` or ``parquet``.
    :param compression: ``gzip``, ``snappy``, ``zstd``, or None for none.
    """

    file_format: str
    compression: str | None

    @property
    def ending(self) -> str:
        """The extension of a part's name, with its dot."""
        gzipped = ".gz" if self.file_format == "jsonl" and self.compression else ""
        return f".{self.file_format}{gzipped}"


def check_path(path: object) -> str:
    """
    Check the path of an archive.

    :param path: a rendered path.
    :returns: the path.
    :raises FineTuningInputError: if it is not one, is relative, or contains a password.
    """
    text = str(path) if path is not None else ""
    shown = redacted_path(text)
    if not text.strip() or text == "None" or text.endswith("/"):
        raise FineTuningInputError(
            f"The path is {shown!r}. It must be the archive's file, such as "
            "s3://bucket/logs/{{ params.job_id }}.jsonl."
        )
    if shown != text:
        raise FineTuningInputError(
            f"The path {shown!r} contains a password, which would be shown wherever the path is. Put it into "
            "a connection, and the connection's id before the @ or into storage_conn_id."
        )
    protocol, separator, rest = text.partition("://")
    rest = rest.partition("@")[2] if "@" in rest.partition("/")[0] else rest
    local = not separator or protocol in ("file", "local")
    if local and not (rest if separator else text).startswith("/"):
        raise FineTuningInputError(
            f"The path {shown!r} is relative, so every worker would put it somewhere else. Begin it with / "
            "or with a protocol, such as file:///data/logs/ or s3://bucket/logs/."
        )
    if {".", ".."} & set(text.split("/")):
        raise FineTuningInputError(f"The path {shown!r} contains . or .. as a folder; write it in full.")
    if any(ord(sign) < 32 or 127 <= ord(sign) < 160 or 0xD800 <= ord(sign) < 0xE000 for sign in text):
        raise FineTuningInputError(f"The path {shown!r} contains a control character.")
    if separator and protocol not in _NO_FOLDERS and not rest.partition("/")[2]:
        raise FineTuningInputError(
            f"The path {shown!r} is not a file in a bucket; it must look like {protocol}://bucket/log.jsonl."
        )
    return text


def layout_of(path: str, *, file_format: object, compression: object) -> Layout:
    """
    Determine the format of an archive's files, and check that it fits the path's extension.

    :param path: the archive's path; a template's extension counts as far as it is written out.
    :param file_format: ``jsonl`` or ``parquet``.
    :param compression: ``infer`` for gzip where a jsonl path ends in ``.gz`` and snappy for parquet, or
        ``gzip``, ``snappy`` and ``zstd`` (parquet), or None.
    :returns: the format.
    :raises FineTuningInputError: if they do not fit.
    """
    if file_format not in FORMATS:
        raise FineTuningInputError(f"file_format is {file_format!r}; it must be one of {', '.join(FORMATS)}.")
    file_format = str(file_format)
    gzipped = path.lower().endswith(".gz")
    if compression == INFER:
        compression = ("gzip" if gzipped else None) if file_format == "jsonl" else "snappy"
    allowed = _COMPRESSIONS[file_format]
    if compression not in allowed:
        words = ", ".join("None" if word is None else repr(word) for word in (INFER, *allowed))
        raise FineTuningInputError(
            f"compression is {compression!r}; for {file_format} it must be one of {words}."
        )
    word = None if compression is None else str(compression)
    _check_ending(path, file_format, gzip=file_format == "jsonl" and word == "gzip")
    return Layout(file_format, word)


def _check_ending(path: str, file_format: str, *, gzip: bool) -> None:
    """Refuse a path with another extension; a template that ends the path may render to any."""
    shown, path = redacted_path(path), path.lower()
    if path.rstrip().endswith(("}}", "%}", "#}")):
        return
    gzipped = path.endswith(".gz")
    if gzipped and not gzip:
        raise FineTuningInputError(
            f"The path {shown!r} ends in .gz, but its files would not be gzip files: leave out compression, "
            "or leave out .gz."
        )
    if gzip and not gzipped:
        raise FineTuningInputError(
            f"The path {shown!r} would be a gzip file, and readers go by the extension: let it end in .gz."
        )
    bare = path.removesuffix(".gz")
    for ending, meant in _ENDINGS.items():
        if bare.endswith(ending) and meant != file_format:
            raise FineTuningInputError(
                f"The path {shown!r} ends in {ending}, but file_format is {file_format!r}: they must agree."
            )
