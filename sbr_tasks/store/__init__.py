"""All durable state, in a local folder or an object store with the same guarantees.

- A key is written atomically and never changed afterwards (`put_new` rejects a second writer).
- A `FileRecord` names a file with its size and hash; `read` rejects content that doesn't match.
- A record is a JSON object with a hash of its key and content; `get_json` rejects one that was changed.
- A `NumberedLog` is a sequence of records in which entry n can be created once, by one writer.
"""

from sbr_tasks.store import kinds
from sbr_tasks.store.fingerprints import code_version, content_hash, fingerprint, syntax_of
from sbr_tasks.store.log import INCOMPLETE, LogEntry, NumberedLog
from sbr_tasks.store.objects import Stat, Store, StoreFormat, name_hash, open_backend
from sbr_tasks.store.records import FileRecord, Json, Record, file_name, file_records, first_problem, seal, to_json
from sbr_tasks.store.tables import from_parquet, to_npz, to_parquet

__all__ = [
    "INCOMPLETE",
    "FileRecord",
    "Json",
    "LogEntry",
    "NumberedLog",
    "Record",
    "Stat",
    "Store",
    "StoreFormat",
    "code_version",
    "content_hash",
    "file_name",
    "file_records",
    "fingerprint",
    "first_problem",
    "from_parquet",
    "kinds",
    "name_hash",
    "open_backend",
    "seal",
    "syntax_of",
    "to_json",
    "to_npz",
    "to_parquet",
]
