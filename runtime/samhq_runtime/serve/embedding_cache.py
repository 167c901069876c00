"""Encoded images, the least recently used of them dropped when they take more bytes than allowed."""

from __future__ import annotations

from collections import OrderedDict

from ..embeddings import EncodedImage


class EmbeddingCache:
    """Not thread-safe: its owner holds a lock."""

    def __init__(self, *, max_bytes: int, entry_bytes: int) -> None:
        """`entry_bytes` is what one encoded image takes, wherever its arrays live."""
        self.entry_bytes = entry_bytes
        self._capacity = max_bytes // entry_bytes
        self._entries: OrderedDict[bytes, EncodedImage] = OrderedDict()

    def __contains__(self, key: bytes) -> bool:
        return key in self._entries

    def __len__(self) -> int:
        return len(self._entries)

    def get(self, key: bytes) -> EncodedImage | None:
        """The entry, now the most recently used one."""
        if key in self._entries:
            self._entries.move_to_end(key)
        return self._entries.get(key)

    def put(self, key: bytes, encoded: EncodedImage) -> None:
        self._entries[key] = encoded
        self._entries.move_to_end(key)
        while len(self._entries) > self._capacity:
            self._entries.popitem(last=False)
