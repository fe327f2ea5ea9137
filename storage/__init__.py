"""The registry: tables and blob bytes. Knows no tensors and no HTTP; it is given a database URL and a location.

    engine = open_database("sqlite:////home/me/.mixhub/mixhub.sqlite")
    with write(engine) as session:
        repo = repos.create(session, "local", "sentiment")

One module per noun, with functions that take a session: accounts, repos, revisions, refs, versions, aliases, adapters,
adapter_search, bases, compositions, searches, blob_records, upstream; and blobs, check, names, errors.
"""

from storage.database import open_database, read, write

__all__ = ["open_database", "read", "write"]
