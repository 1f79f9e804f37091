"""A mounted folder as storage, as snakemake-storage-plugin-fs has it, without rsync."""

import os
import shutil
from pathlib import Path

from snakemake_interface_storage_plugins.io import Mtime
from snakemake_interface_storage_plugins.storage_object import (
    StorageObjectRead,
    StorageObjectWrite,
)
from snakemake_interface_storage_plugins.storage_provider import (
    StorageProviderBase,
    StorageQueryValidationResult,
)


class StorageProvider(StorageProviderBase):
    """Files by their absolute paths."""

    @classmethod
    def example_queries(cls):
        return []

    @classmethod
    def is_valid_query(cls, query):
        return StorageQueryValidationResult(query=query, valid=True)

    def rate_limiter_key(self, query, operation): ...

    def default_max_requests_per_second(self): ...

    def use_rate_limiter(self):
        return False


class StorageObject(StorageObjectRead, StorageObjectWrite):
    """One file."""

    def local_suffix(self):
        return self.query.removeprefix("/")

    def get_inventory_parent(self):
        return None

    async def inventory(self, cache):
        key = self.cache_key()
        cache.exists_in_storage[key] = self.exists()
        if self.exists():
            cache.mtime[key] = Mtime(storage=self.mtime())
            cache.size[key] = self.size()

    def exists(self):
        return Path(self.query).exists()

    def mtime(self):
        return os.stat(self.query).st_mtime

    def size(self):
        return os.stat(self.query).st_size

    def retrieve_object(self):
        shutil.copy2(self.query, self.local_path())

    def store_object(self):
        Path(self.query).unlink(missing_ok=True)
        Path(self.query).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(self.local_path(), self.query)

    def remove(self):
        Path(self.query).unlink()

    def cleanup(self): ...
