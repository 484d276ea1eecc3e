"""Ways to bring files from links to a disk or to S3: this package's and those one would take otherwise."""

from __future__ import annotations

import filecmp
import json
import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from benchmarks.measure import Command, Failed
from benchmarks.servers import ACCESS_KEY, API, BUCKET, S3, SECRET_KEY, File, Servers, find

PARALLEL = 8


@dataclass(frozen=True)
class Job:
    """What is to be brought where.

    :ivar task: The remote task.
    :ivar warm_up: A task with one tiny file.
    :ivar store: The S3 endpoint, or ``None`` for a disk.
    :ivar prefix: The prefix in the bucket, or the folder's name.
    :ivar scratch: A folder for lists and reports.
    """

    servers: Servers
    task: str
    warm_up: str
    store: S3 | None
    prefix: str
    scratch: Path

    @property
    def files(self) -> list[File]:
        """The task's files."""
        return self.servers.files(self.task)

    @property
    def only(self) -> File:
        """The task's one file."""
        (file,) = self.files
        return file

    @property
    def folder(self) -> Path:
        """The destination on disk."""
        return self.servers.folder / "out" / self.prefix

    def destination(self) -> str:
        """Return the destination as Airflow's users write it."""
        return f"s3://bench_store@{BUCKET}/{self.prefix}" if self.store else f"file://{self.folder}"

    def prepare(self) -> None:
        """Make room for the result."""
        if self.store is None:
            self.folder.mkdir(parents=True)

    def check(self, *, contents: bool) -> None:
        """Check that every file came.

        :param contents: Compare every byte, where they were kept, and not only lengths.
        :raises Failed: One did not.
        """
        for file in self.files:
            path = self.folder / file.name
            if self.store is not None and self.store.root is not None:
                path = self.store.root / BUCKET / self.prefix / file.name
            if self.store is not None:
                size = self.servers.size_in(self.store, f"{self.prefix}/{file.name}")
            else:
                size = path.stat().st_size if path.is_file() else -1
            if size != file.size:
                raise Failed(f"{file.name} has {size} bytes, not {file.size}")
            if contents and path.is_file() and not filecmp.cmp(path, file.path, shallow=False):
                raise Failed(f"{file.name} is not what was served")

    def clean(self) -> None:
        """Remove the result."""
        shutil.rmtree(self.folder, ignore_errors=True)
        if self.store is not None and self.store.root is not None:
            shutil.rmtree(self.store.root / BUCKET / self.prefix, ignore_errors=True)


Way = Callable[[Job], Command]


def ours(concurrency: int = PARALLEL) -> Way:
    """This package's operator."""

    def command(job: Job) -> Command:
        def parameters(task: str, destination: str) -> dict[str, object]:
            return {"task": task, "destination": destination, "concurrency": concurrency}

        given = parameters(job.task, job.destination())
        given["warm_up"] = parameters(job.warm_up, f"{job.destination()}/warm-up")
        return _task(job, "ours", given)

    return command


def http_to_s3(job: Job) -> Command:
    """The operator that Airflow has: each file whole in memory."""

    def parameters(files: list[File]) -> dict[str, object]:
        pairs = [(urlsplit(file.url).path, f"{job.prefix}/{file.name}") for file in files]
        return {"files": pairs, "bucket": BUCKET, "certificate": str(job.servers.certificate)}

    given = parameters(job.files)
    given["warm_up"] = parameters(job.servers.files(job.warm_up))
    return _task(job, "http_to_s3", given)


def curl(job: Job) -> Command:
    """curl, eight at once if there are several files."""
    base = [find("curl"), "-q", "-sS", "--fail", "--cacert", str(job.servers.certificate)]
    if len(job.files) == 1:
        return Command([*base, "-o", str(job.folder / job.only.name), job.only.url])
    listed = job.scratch / "curl.txt"
    listed.write_text("".join(f'url = "{file.url}"\noutput = "{job.folder / file.name}"\n' for file in job.files))
    return Command([*base, "--parallel", "--parallel-max", str(PARALLEL), "-K", str(listed)])


def curl_to_s3(job: Job) -> Command:
    """curl piped into a curl that uploads to a URL signed beforehand."""
    url = job.scratch / "presigned.txt"
    given = {"bucket": BUCKET, "key": f"{job.prefix}/{job.only.name}", "to": str(url)}
    signing = _task(job, "presign", given)
    subprocess.run(signing.argv, env={**os.environ, **signing.env}, check=True)
    base = [find("curl"), "-q", "-sS", "--fail", "--cacert", str(job.servers.certificate)]
    # With the length S3 wants to know beforehand, and thus not in chunks.
    headers = ["-H", f"Content-Length: {job.only.size}", "-H", "Transfer-Encoding:", "-H", "Expect:"]
    upload = [*base, *headers, "-o", os.devnull, "-T", "-", url.read_text()]
    return Command(["sh", "-c", f"{shlex.join([*base, job.only.url])} | {shlex.join(upload)}"])


def aria2c(connections: int = PARALLEL) -> Way:
    """aria2c with several connections to one file, or to several files."""

    def command(job: Job) -> Command:
        argv = [find("aria2c"), "--no-conf", "-q", f"--ca-certificate={job.servers.certificate}"]
        argv += ["--file-allocation=none", f"--dir={job.folder}"]
        if len(job.files) == 1:
            split = [f"-x{connections}", f"-s{connections}", "-k1M"]
            return Command([*argv, *split, f"--out={job.only.name}", job.only.url])
        listed = job.scratch / "aria2.txt"
        listed.write_text("".join(f"{file.url}\n  out={file.name}\n" for file in job.files))
        return Command([*argv, f"-j{connections}", "-x1", "-i", str(listed)])

    return command


def rclone(job: Job) -> Command:
    """``rclone copyurl``."""
    target = f"store:{BUCKET}/{job.prefix}" if job.store else str(job.folder)
    argv = [find("rclone"), "copyurl", "-q", "--ca-cert", str(job.servers.certificate)]
    env = {"RCLONE_CONFIG": os.devnull}
    if job.store:
        values = {
            "TYPE": "s3", "PROVIDER": "Other", "ACCESS_KEY_ID": ACCESS_KEY, "SECRET_ACCESS_KEY": SECRET_KEY,
            "ENDPOINT": job.store.endpoint, "REGION": "us-east-1", "NO_CHECK_BUCKET": "true",
        }  # fmt: skip
        env |= {f"RCLONE_CONFIG_STORE_{name}": value for name, value in values.items()}
    if len(job.files) == 1:
        return Command([*argv, job.only.url, f"{target}/{job.only.name}"], env)
    listed = job.scratch / "rclone.csv"
    listed.write_text("".join(f"{file.url},{file.name}\n" for file in job.files))
    return Command([*argv, "--transfers", str(PARALLEL), "--urls", str(listed), target], env)


def floor(digest: str = "") -> Way:
    """The standard library's HTTP client and nothing else, or a digest besides."""

    def command(job: Job) -> Command:
        arguments = [job.only.url, str(job.folder / job.only.name), str(job.servers.certificate), digest]
        return Command([sys.executable, "-m", "benchmarks.floor", *arguments])

    return command


def _task(job: Job, kind: str, given: Mapping[str, object]) -> Command:
    parameters, report = job.scratch / f"{kind}.json", job.scratch / f"{kind}-report.json"
    parameters.write_text(json.dumps(given))
    report.unlink(missing_ok=True)
    certificate = str(job.servers.certificate)
    source = urlsplit(job.files[0].url)
    links = {"verify": certificate, "check_status": False, "allowed_link_hosts": ["127.0.0.1"]}
    api = {"conn_type": "eo_analysis", "host": f"{job.servers.host}{API}", "password": "no-secret", "extra": links}
    files = {"conn_type": "http", "schema": "https", "host": source.hostname, "port": source.port}
    env = {
        "AIRFLOW_HOME": str(job.servers.folder / "airflow"),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW_CONN_BENCH_API": json.dumps(api),
        "AIRFLOW_CONN_BENCH_FILES": json.dumps(files),
        "AWS_CA_BUNDLE": certificate,
        "AWS_ACCESS_KEY_ID": ACCESS_KEY,
        "AWS_SECRET_ACCESS_KEY": SECRET_KEY,
        "AWS_CONFIG_FILE": os.devnull,
        "AWS_EC2_METADATA_DISABLED": "true",
    }
    if job.store:
        extra = {"endpoint_url": job.store.endpoint, "region_name": "us-east-1", "verify": certificate}
        store = {"conn_type": "aws", "login": ACCESS_KEY, "password": SECRET_KEY, "extra": extra}
        env["AIRFLOW_CONN_BENCH_STORE"] = json.dumps(store)
        env["AWS_ENDPOINT_URL"] = job.store.endpoint
        if job.store.wants_lengths:
            env["AWS_REQUEST_CHECKSUM_CALCULATION"] = "when_required"
    argv = [sys.executable, "-m", "benchmarks.task", kind, str(parameters), str(report)]
    return Command(argv, env, report)
