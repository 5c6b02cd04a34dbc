"""The filter of the job list: ``metadata[k]=v``, or ``metadata=null``."""

from __future__ import annotations

import re
from collections.abc import Mapping

from airflow_ft_events.simulator.create import InvalidRequestError

_PAIR = re.compile(r"metadata\[(.*)\]", re.DOTALL)


def metadata_asked(query: Mapping[str, str]) -> Mapping[str, str] | None:
    """
    Read the filter.

    :param query: the request's query parameters.
    :returns: the pairs that a job must have, none if any job will do; None for jobs without metadata.
    :raises InvalidRequestError: if it is neither of the two forms.
    """
    told = query.get("metadata")
    if told == "null":
        return None
    if told is not None:
        raise InvalidRequestError(
            "Invalid value for 'metadata': use metadata[key]=value, or metadata=null.",
            param="metadata",
            code="invalid_value",
        )
    return {pair[1]: value for name, value in query.items() if (pair := _PAIR.fullmatch(name))}


def fits(metadata: Mapping[str, str] | None, wanted: Mapping[str, str] | None) -> bool:
    """
    Tell whether a job is asked for.

    :param metadata: the job's.
    :param wanted: what ``metadata_asked`` returned.
    """
    if wanted is None:
        return not metadata
    return all((metadata or {}).get(key) == value for key, value in wanted.items())
