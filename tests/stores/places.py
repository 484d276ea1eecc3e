"""The stores, each as a user's connection leads to it, and each with a look from behind."""

from __future__ import annotations

import json
import uuid
from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any, ClassVar
from urllib.parse import quote

import httpx

from tests.s3 import KEY, SECRET, S3Server, uploads_in


class Place(ABC):
    """A store that runs.

    :cvar resumes: Whether a file that was broken off goes on where it was.
    :cvar keeps_sha256: Whether the sha256 of a long file is in its metadata; ``None`` if not even a short one's is.
    :cvar tidies: Whether what was given up is gone at once; Azure forgets it with the next commit, or after a week.
    :cvar holds_back: Whether a name is given to the first of two that want it.
    :cvar at_once: Whether that is so for two that come at the very same moment.
    """

    conn_id: ClassVar[str]
    resumes: ClassVar[bool] = True
    keeps_sha256: ClassVar[bool | None] = None
    tidies: ClassVar[bool] = True
    holds_back: ClassVar[bool] = True
    at_once: ClassVar[bool] = True

    def connection(self) -> dict[str, Any] | None:
        """Return the Airflow connection that leads here, as JSON values; a disk needs none."""
        return None

    def environment(self) -> dict[str, str]:
        """Return what a process of Airflow needs in its environment."""
        connection = self.connection()
        return {} if connection is None else {f"AIRFLOW_CONN_{self.conn_id.upper()}": json.dumps(connection)}

    @abstractmethod
    def folder(self) -> str:
        """Return the URL of an empty place."""

    @abstractmethod
    def contents(self, url: str) -> dict[str, bytes]:
        """Return everything that shows there, by name."""

    def names(self, url: str) -> set[str]:
        """Return the names of everything that shows there."""
        return set(self.contents(url))

    @abstractmethod
    def put(self, url: str, name: str, data: bytes) -> None:
        """Put a file there."""

    def unfinished(self, url: str) -> list[str]:
        """Return what was begun there and neither completed nor given up, as far as the store tells."""
        return []

    def sha256_of(self, url: str, name: str) -> str | None:
        """Return what the store's metadata say of a file."""
        return None


class Disk(Place):
    """A directory.

    :param root: Where.
    """

    conn_id = "none"

    def __init__(self, root: Path) -> None:
        self._root = root

    def folder(self) -> str:
        return f"file://{self._root}/{uuid.uuid4().hex[:8]}/a b"

    def contents(self, url: str) -> dict[str, bytes]:
        root = Path(url.removeprefix("file://"))
        return {name: (root / name).read_bytes() for name in self.names(url)}

    def names(self, url: str) -> set[str]:
        root = Path(url.removeprefix("file://"))
        return {path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file()}

    def put(self, url: str, name: str, data: bytes) -> None:
        path = Path(url.removeprefix("file://")) / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)


class Bucket(Place):
    """A store whose URLs are ``scheme://connection@bucket/prefix``."""

    scheme: ClassVar[str]

    @abstractmethod
    def new(self) -> str:
        """Make a bucket and return its name."""

    def folder(self) -> str:
        return f"{self.scheme}://{self.conn_id}@{self.new()}/a b/day=1"

    def place(self, url: str) -> tuple[str, str]:
        """Return bucket and prefix of a URL."""
        bucket, _, prefix = url.partition("@")[2].partition("/")
        return bucket, f"{prefix}/"


class S3(Bucket):
    """A bucket of an S3 server."""

    scheme, conn_id = "s3", "stores_s3"
    # rclone takes the condition without a word and pays it no heed, and keeps no metadata.
    holds_back = False

    def __init__(self, server: S3Server) -> None:
        self.server, self.client = server, server.client()

    def connection(self) -> dict[str, Any]:
        extra = {"endpoint_url": self.server.url, "region_name": "us-east-1"}
        return {"conn_type": "aws", "login": KEY, "password": SECRET, "extra": extra}

    def new(self) -> str:
        name = f"b-{uuid.uuid4().hex[:12]}"
        self.client.create_bucket(Bucket=name)
        return name

    def contents(self, url: str) -> dict[str, bytes]:
        bucket = self.place(url)[0]
        return {
            name: self.client.get_object(Bucket=bucket, Key=self.place(url)[1] + name)["Body"].read()
            for name in self.names(url)
        }

    def names(self, url: str) -> set[str]:
        bucket, prefix = self.place(url)
        pages = self.client.get_paginator("list_objects_v2").paginate(Bucket=bucket)
        return {entry["Key"].removeprefix(prefix) for page in pages for entry in page.get("Contents", ())}

    def put(self, url: str, name: str, data: bytes) -> None:
        bucket, prefix = self.place(url)
        self.client.put_object(Bucket=bucket, Key=prefix + name, Body=data)

    def unfinished(self, url: str) -> list[str]:
        return uploads_in(self.client, self.place(url)[0])

    def sha256_of(self, url: str, name: str) -> str | None:
        bucket, prefix = self.place(url)
        found: str | None = self.client.head_object(Bucket=bucket, Key=prefix + name)["Metadata"].get("sha256")
        return found


class Moto(S3):
    """A bucket of moto, which knows conditions and metadata as Amazon's own store does."""

    conn_id, holds_back, keeps_sha256 = "stores_moto", True, False
    # It looks whether the name is taken, and then puts the parts together: two that come meanwhile both find it free.
    at_once = False


# Azurite's own account, published by its vendor: https://learn.microsoft.com/azure/storage/common/storage-use-azurite
_ACCOUNT = "devstoreaccount1"
_ACCOUNT_KEY = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="


class Azure(Bucket):
    """A container of Azurite.

    :param url: Its endpoint.
    """

    scheme, conn_id, keeps_sha256, tidies = "abfs", "stores_azure", True, False

    def __init__(self, url: str) -> None:
        from azure.storage.blob import BlobServiceClient

        self.text = (
            f"DefaultEndpointsProtocol=http;AccountName={_ACCOUNT};AccountKey={_ACCOUNT_KEY};"
            f"BlobEndpoint={url}/{_ACCOUNT};"
        )
        self.client = BlobServiceClient.from_connection_string(self.text)

    def connection(self) -> dict[str, Any]:
        return {"conn_type": "adls", "extra": {"connection_string": self.text}}

    def new(self) -> str:
        name = f"c-{uuid.uuid4().hex[:12]}"
        self.client.create_container(name)
        return name

    def _list(self, url: str, **options: Any) -> set[str]:
        container, prefix = self.place(url)
        blobs = self.client.get_container_client(container).list_blobs(**options)
        return {blob.name.removeprefix(prefix) for blob in blobs}

    def names(self, url: str) -> set[str]:
        return self._list(url)

    def contents(self, url: str) -> dict[str, bytes]:
        container, prefix = self.place(url)
        client = self.client.get_container_client(container)
        return {name: client.download_blob(prefix + name).readall() for name in self.names(url)}

    def put(self, url: str, name: str, data: bytes) -> None:
        container, prefix = self.place(url)
        self.client.get_blob_client(container, prefix + name).upload_blob(data, overwrite=True)

    def unfinished(self, url: str) -> list[str]:
        container, prefix = self.place(url)
        loose = self._list(url, include=["uncommittedblobs"])
        blobs = ((name, self.client.get_blob_client(container, prefix + name)) for name in loose)
        return sorted(name for name, blob in blobs if blob.get_block_list("uncommitted")[1])

    def sha256_of(self, url: str, name: str) -> str | None:
        container, prefix = self.place(url)
        return self.client.get_blob_client(container, prefix + name).get_blob_properties().metadata.get("sha256")


class Gcs(Bucket):
    """A bucket of an emulator of Google Cloud Storage.

    :param url: Its endpoint.
    """

    scheme, conn_id, keeps_sha256 = "gs", "stores_gcs", True

    def __init__(self, url: str) -> None:
        self.url, self.client = url, httpx.Client(base_url=url, trust_env=False, timeout=60)

    def connection(self) -> dict[str, Any]:
        extra = {"project": "taskdl", "is_anonymous": True, "gcs.endpoint": self.url}
        return {"conn_type": "google_cloud_platform", "extra": extra}

    def environment(self) -> dict[str, str]:
        # An emulator has no gRPC, by which gcsfs asks what kind of bucket it is: it would wait a minute for an answer.
        return {**super().environment(), "GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT": "false"}

    def _ask(self, method: str, path: str, **options: Any) -> httpx.Response:
        return self.client.request(method, path, **options).raise_for_status()

    def new(self) -> str:
        name = f"b-{uuid.uuid4().hex[:12]}"
        self._ask("POST", "/storage/v1/b", params={"project": "taskdl"}, json={"name": name})
        return name

    def names(self, url: str) -> set[str]:
        bucket, prefix = self.place(url)
        found: set[str] = set()
        query: dict[str, str] = {}
        while True:
            answer = self._ask("GET", f"/storage/v1/b/{bucket}/o", params=query).json()
            found |= {item["name"].removeprefix(prefix) for item in answer.get("items", ())}
            if not (token := answer.get("nextPageToken")):
                return found
            query = {"pageToken": token}

    def contents(self, url: str) -> dict[str, bytes]:
        return {
            name: self._ask("GET", self._path(url, name), params={"alt": "media"}).content for name in self.names(url)
        }

    def put(self, url: str, name: str, data: bytes) -> None:
        bucket, prefix = self.place(url)
        query = {"uploadType": "media", "name": prefix + name}
        self._ask("POST", f"/upload/storage/v1/b/{bucket}/o", params=query, content=data)

    def sha256_of(self, url: str, name: str) -> str | None:
        found: str | None = self._ask("GET", self._path(url, name)).json().get("metadata", {}).get("sha256")
        return found

    def _path(self, url: str, name: str) -> str:
        bucket, prefix = self.place(url)
        return f"/storage/v1/b/{bucket}/o/{quote(prefix + name, safe='')}"
