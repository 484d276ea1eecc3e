"""An S3 endpoint that forgets what it is given, to show how fast a client can be where the store is no limit.

It knows the calls of single and multipart uploads and how long objects are, checks no signatures and computes no
digests. Small objects (a manifest, a checkpoint) can be read back. It is no test of correctness: that is the part of
the other server.

Run as ``python -m benchmarks.swallow PORT CERTIFICATE KEY``.
"""

from __future__ import annotations

import itertools
import sys
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from xml.sax.saxutils import escape

from benchmarks.tls_server import Request, serve

_KEPT = 64 * 1024
_XML = {"Content-Type": "application/xml"}


@dataclass
class _Object:
    size: int
    etag: str
    content: bytes | None = None
    time: str = field(default_factory=lambda: time.strftime("%Y-%m-%dT%H:%M:%S.000Z", time.gmtime()))

    @property
    def xml(self) -> str:
        return f"<Size>{self.size}</Size><ETag>{escape(self.etag)}</ETag><LastModified>{self.time}</LastModified>"


@dataclass
class _Upload:
    key: str
    parts: dict[int, _Object] = field(default_factory=dict)


class Swallow:
    """The endpoint's state."""

    def __init__(self) -> None:
        self._objects: dict[str, _Object] = {}
        self._uploads: dict[str, _Upload] = {}
        self._numbers = itertools.count(1)
        self._lock = threading.Lock()

    def __call__(self, request: Request) -> None:
        """Answer a request."""
        _, slash, key = request.path.partition("/")
        if not slash or not key:
            self._of_bucket(request)
        elif "uploads" in request.query:
            self._begin(request)
        elif "uploadId" in request.query:
            self._of_upload(request)
        elif request.method == "PUT":
            self._put(request)
        elif request.method == "DELETE":
            self._objects.pop(request.path, None)
            request.answer(204)
        else:
            self._get(request)

    def _of_bucket(self, request: Request) -> None:
        if request.method == "POST":  # many deletions at once: nothing is kept that would have to go
            request.answer(200, _document("DeleteResult", ""), _XML)
        elif "uploads" in request.query:
            text = "".join(
                f"<Upload><Key>{escape(upload.key.partition('/')[2])}</Key><UploadId>{number}</UploadId></Upload>"
                for number, upload in list(self._uploads.items())
            )
            request.answer(200, _document("ListMultipartUploadsResult", text), _XML)
        elif request.method == "GET":
            self._list(request)
        else:
            request.answer(200)

    def _list(self, request: Request) -> None:
        bucket = request.path.rstrip("/")
        prefix, delimiter = request.query.get("prefix", ""), request.query.get("delimiter", "")
        folders, text = set(), ""
        for path, found in sorted(self._objects.items()):
            key = path.removeprefix(f"{bucket}/")
            if key == path or not key.startswith(prefix):
                continue
            rest = key[len(prefix) :]
            if delimiter and delimiter in rest:
                folders.add(prefix + rest.partition(delimiter)[0] + delimiter)
            else:
                text += f"<Contents><Key>{escape(key)}</Key>{found.xml}</Contents>"
        text += "".join(f"<CommonPrefixes><Prefix>{escape(name)}</Prefix></CommonPrefixes>" for name in sorted(folders))
        head = f"<Name>{bucket}</Name><Prefix>{escape(prefix)}</Prefix><IsTruncated>false</IsTruncated>"
        request.answer(200, _document("ListBucketResult", head + text), _XML)

    def _begin(self, request: Request) -> None:
        number = f"upload-{next(self._numbers)}"
        self._uploads[number] = _Upload(request.path)
        bucket, _, key = request.path.partition("/")
        text = f"<Bucket>{bucket}</Bucket><Key>{escape(key)}</Key><UploadId>{number}</UploadId>"
        request.answer(200, _document("InitiateMultipartUploadResult", text), _XML)

    def _of_upload(self, request: Request) -> None:
        number = request.query["uploadId"]
        upload = self._uploads.get(number)
        if upload is None:
            request.answer(404, _error("NoSuchUpload"), _XML)
        elif request.method == "PUT":
            part = self._take(request)
            upload.parts[int(request.query["partNumber"])] = part
            request.answer(200, headers={"ETag": part.etag})
        elif request.method == "GET":
            parts = "".join(
                f"<Part><PartNumber>{n}</PartNumber>{part.xml}</Part>" for n, part in sorted(upload.parts.items())
            )
            request.answer(200, _document("ListPartsResult", f"<IsTruncated>false</IsTruncated>{parts}"), _XML)
        elif request.method == "DELETE":
            del self._uploads[number]
            request.answer(204)
        else:
            self._complete(request, number, upload)

    def _complete(self, request: Request, number: str, upload: _Upload) -> None:
        if self._is_refused(request):
            return
        whole = _Object(sum(part.size for part in upload.parts.values()), self._etag())
        self._objects[upload.key] = whole
        del self._uploads[number]
        bucket, _, key = upload.key.partition("/")
        text = f"<Bucket>{bucket}</Bucket><Key>{escape(key)}</Key><ETag>{escape(whole.etag)}</ETag>"
        request.answer(200, _document("CompleteMultipartUploadResult", text), _XML)

    def _put(self, request: Request) -> None:
        if self._is_refused(request):
            return
        taken = self._take(request)
        self._objects[request.path] = taken
        request.answer(200, headers={"ETag": taken.etag})

    def _take(self, request: Request) -> _Object:
        decoded = request.headers.get("x-amz-decoded-content-length")
        size = int(decoded) if decoded else request.length
        content = None
        if size <= _KEPT:
            content = request.read()
            if decoded:  # framed for a checksum behind it: in one frame, at such lengths
                content = content.partition(b"\r\n")[2][:size]
        request.swallow()
        return _Object(size, self._etag(), content)

    def _get(self, request: Request) -> None:
        found = self._objects.get(request.path)
        if found is None:
            request.answer(404, b"" if request.method == "HEAD" else _error("NoSuchKey"), _XML)
            return
        modified = time.strftime("%a, %d %b %Y %H:%M:%S GMT", time.strptime(found.time, "%Y-%m-%dT%H:%M:%S.000Z"))
        headers = {"ETag": found.etag, "Last-Modified": modified}
        if request.method == "HEAD":
            request.answer(200, headers=headers, size=found.size)
        elif found.content is None:
            request.answer(500, _error("InternalError"), _XML)
        else:
            request.answer(200, found.content, headers)

    def _is_refused(self, request: Request) -> bool:
        if request.headers.get("if-none-match") == "*" and request.path in self._objects:
            request.answer(412, _error("PreconditionFailed"), _XML)
            return True
        return False

    def _etag(self) -> str:
        # The form that stores give what they do not name by its MD5.
        with self._lock:
            return f'"{next(self._numbers):032x}-1"'


def _document(name: str, text: str) -> bytes:
    space = "http://s3.amazonaws.com/doc/2006-03-01/"
    return f'<?xml version="1.0" encoding="UTF-8"?><{name} xmlns="{space}">{text}</{name}>'.encode()


def _error(code: str) -> bytes:
    return f'<?xml version="1.0" encoding="UTF-8"?><Error><Code>{code}</Code><Message>-</Message></Error>'.encode()


if __name__ == "__main__":
    serve(int(sys.argv[1]), Path(sys.argv[2]), Path(sys.argv[3]), Swallow())
