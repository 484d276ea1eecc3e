"""What is known of one file at its host; shared by all who read parts of it."""

from __future__ import annotations

from airflow_provider_taskdl.exceptions import IntegrityError, SourceChangedError, TransferError
from airflow_provider_taskdl.listing import RemoteFile
from airflow_provider_taskdl.transfer.client import Response
from airflow_provider_taskdl.transfer.digest import announced_digests
from airflow_provider_taskdl.transfer.names import name_in
from airflow_provider_taskdl.transfer.pages import page_in_place_of
from airflow_provider_taskdl.transfer.sinks.base import Origin


class Source:
    """A file at its host: learnt from the first answer, and what every later answer is compared with.

    :param file: The file.
    :ivar size: Bytes, as far as is known.
    :ivar etag: Its ETag, if it has one.
    :ivar digests: What the host announced of the whole file.
    :ivar given_name: The name that the host gives it, if any.
    :ivar is_known: Whether there was an answer.
    """

    def __init__(self, file: RemoteFile) -> None:
        self.file = file
        self.size: int | None = file.size
        self.etag: str | None = None
        self.digests: dict[str, str] = {}
        self.given_name: str | None = None
        self.is_known = False
        self._modified: str | None = None

    @property
    def strong_etag(self) -> str | None:
        """The ETag, if it speaks of the very bytes; a weak one only speaks of their meaning."""
        return None if self.etag is None or self.etag.startswith("W/") else self.etag

    @property
    def origin(self) -> Origin:
        """What tells this version of the file from another."""
        return Origin(self.size, self.strong_etag, self._modified)

    def check_encoding(self, response: Response, total: int | None) -> None:
        """Refuse an encoded body, unless it is known that the encoded form is the file.

        :param response: The answer.
        :param total: Bytes of the whole file as it is sent, if it says so.
        :raises TransferError: It is encoded, and nothing says that it is meant to be.
        """
        encoding = (response.headers.get("Content-Encoding") or "identity").strip().lower()
        if encoding not in ("identity", "") and (self.file.size is None or total != self.file.size):
            raise TransferError(
                f"the file host sends the file encoded as {encoding}, which was not asked for",
                target=response.shown,
                retryable=False,
            )

    def check_content(self, start: memoryview) -> None:
        """Refuse a page of a gateway or an error of a store in the file's place; a size that is right proves more.

        A weak ETag does not tell of a stored file: frameworks put one on whatever they answer, errors included.

        :param start: The file's first bytes; all of it, if that is short.
        :raises IntegrityError: It is one.
        """
        stored = bool(self.strong_etag or self._modified or self.digests)
        if self.file.size is None and (page := page_in_place_of(self.file.name, bytes(start[:8192]), is_stored=stored)):
            raise IntegrityError(f"the file host sent {page} in the file's place")

    def learn(self, response: Response, total: int | None, *, whole: bool) -> None:
        """Take over what the first answer says.

        :param response: The answer.
        :param total: Bytes of the whole file, if it says so.
        :param whole: Whether its body is the whole file.
        :raises IntegrityError: The size is not the one that the service lists, or the file's end cannot be seen.
        """
        self.is_known = True
        self.etag = response.headers.get("ETag")
        self._modified = response.headers.get("Last-Modified")
        self.digests = announced_digests(response.headers, whole=whole)
        self.given_name = name_in(response.headers.get("Content-Disposition"))
        self.learn_size(response, total)

    def learn_size(self, response: Response, total: int | None) -> None:
        """Take over the size that an answer says.

        :raises IntegrityError: As for :meth:`learn`.
        """
        if total is None:
            if self.size is None and not response.ends_itself:
                raise no_end(response)
            return
        if self.file.size is not None and total != self.file.size:
            raise IntegrityError(
                f"the service announced {self.file.size} bytes, the file host has {total}", target=response.shown
            )
        self.size = total

    def check_same(self, response: Response, total: int | None, position: int) -> None:
        """Prove that an answer is of the same file; without a proof the file must be read again.

        :param response: The answer.
        :param total: Bytes of the whole file, if it says so.
        :param position: From which byte on it is wanted.
        :raises SourceChangedError: It is of another one, or nothing proves that it is not.
        """
        etag, modified = response.headers.get("ETag"), response.headers.get("Last-Modified")
        if (
            (total is not None and self.size is not None and total != self.size)
            or (etag is not None and self.etag is not None and etag != self.etag)
            or (modified is not None and self._modified is not None and modified != self._modified)
        ):
            raise SourceChangedError(f"the file at the host changed after {position} bytes of it were read")
        strong = etag is not None and not etag.startswith("W/")
        same = (strong and etag == self.etag) or (modified is not None and modified == self._modified)
        # Of no byte there is nothing to prove.
        if not same and not (position == 0 and announced_digests(response.headers) == self.digests):
            raise SourceChangedError(
                f"the connection broke at byte {position}, and the file host gives no ETag or date that proves "
                "the rest to be of the same file"
            )


def no_end(response: Response) -> IntegrityError:
    """Return the error for a file whose end cannot be told from a cut."""
    why = "neither the service nor the file host says how long the file is, so a cut cannot be seen"
    return IntegrityError(why, target=response.shown)
