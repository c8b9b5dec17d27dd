# SPDX-License-Identifier: Apache-2.0
"""The Hub's HTTP interface, as far as huggingface_hub uses it to upload and to read models, in one thread of a test.

It keeps repositories in memory and can be told to fail.
"""

import base64
import hashlib
import json
import re
import socket
import threading
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote, urlsplit

import yaml

USER, TOKEN = "someone", "hf_of_someone"
LFS_PART = 40_000  # bytes of one part of a large file


@dataclass
class Repository:
    """One model."""

    private: bool
    branches: dict = field(default_factory=lambda: {"main": {}})  # of each: path -> content
    commits: list = field(default_factory=list)
    snapshots: dict = field(default_factory=lambda: {f"{0:040x}": {}})  # of each commit, by its number

    @property
    def head(self):
        return f"{len(self.commits):040x}"


@dataclass
class Failure:
    """What goes wrong with the next requests of a kind.

    Args:
        request: Pattern of method and path.
        status: Answer; None drops the connection in the middle of the request.
        times: How often; negative is always.
    """

    request: str
    status: int | None
    times: int = 1
    headers: dict = field(default_factory=dict)
    body: str = '{"error": "as the test asked for"}'


class StandIn:
    """The server and what it holds."""

    def __init__(self):
        self.repositories = {}
        self.files = {}  # large ones, by their SHA-256
        self.parts = {}
        self.requests = []
        self.failures = []
        self.lose_answer_of = None  # pattern of one request that is done, but not answered
        self.role = "write"
        self.lfs_from = 2000  # bytes from which a file is a large one
        self.multipart_from = 3 * LFS_PART
        self.lock = threading.Lock()

    def fail(self, *arguments, **settings):
        self.failures.append(Failure(*arguments, **settings))

    def failure_of(self, request):
        for failure in self.failures:
            if failure.times and re.search(failure.request, request):
                failure.times -= 1
                return failure
        return None

    def content(self, repo_id, branch="main"):
        return self.repositories[repo_id].branches[branch]

    def requests_of(self, pattern):
        return [request for request in self.requests if re.search(pattern, request)]

    def write(self, repo_id, folder, branch="main"):
        """Write a repository to a folder, as a download would."""
        for path, content in self.content(repo_id, branch).items():
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / path).write_bytes(content)
        return folder


@contextmanager
def running():
    """Give a stand-in that answers at `url`."""
    hub = StandIn()
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"hub": hub}))
    server.daemon_threads = True  # of which some wait for a next request of a client that is done
    hub.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


class _Answer(Exception):
    """Ends a request."""

    def __init__(self, status, body=None, **headers):
        self.status, self.body, self.headers = status, body, headers


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = -1  # an answer is one packet, which nobody waits for the rest of
    disable_nagle_algorithm = True
    hub: StandIn

    def log_message(self, *arguments):
        pass

    def handle_one_request(self):
        try:
            super().handle_one_request()
        except ConnectionError:  # the client has gone
            self.close_connection = True

    def _serve(self):
        path = unquote(urlsplit(self.path).path)
        request = f"{self.command} {path}"
        with self.hub.lock:
            self.hub.requests.append(request)
            failure = self.hub.failure_of(request)
        if failure is not None and failure.status is None:
            self.rfile.read(int(self.headers.get("Content-Length", 0)) // 2)
            self.close_connection = True
            self.connection.shutdown(socket.SHUT_RDWR)
            return
        body = self._body()
        try:
            if failure is not None:
                raise _Answer(failure.status, failure.body, **failure.headers)
            with self.hub.lock:
                self._route(request, path, body)
            raise _Answer(404, {"error": f"no {request}"})
        except _Answer as answer:
            self._send(answer)

    do_GET = do_POST = do_PUT = do_HEAD = _serve

    def _body(self):
        if self.headers.get("Transfer-Encoding") != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length", 0)))
        chunks = []
        while size := int(self.rfile.readline(), 16):
            chunks.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(chunks)

    def _send(self, answer):
        if self.hub.lose_answer_of and re.search(self.hub.lose_answer_of, self.path):
            self.hub.lose_answer_of, self.close_connection = None, True
            return
        content = answer.body
        if not isinstance(content, bytes | str):
            content = json.dumps(content if content is not None else {})
        content = content.encode() if isinstance(content, str) else content
        self.send_response(answer.status)
        for name, value in {"Content-Length": len(content), **answer.headers}.items():
            self.send_header(name.replace("_", "-"), str(value))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def _route(self, request, path, body):
        for pattern, answer in _ROUTES:
            if found := re.fullmatch(pattern, request):
                if not path.startswith("/lfs/") and self.headers.get("Authorization") != f"Bearer {TOKEN}":
                    raise _Answer(401, {"error": "Invalid username or password."})
                answer(self, *found.groups(), *([body] if self.command in ("POST", "PUT") else []))

    def _repository(self, repo_id):
        if repo_id not in self.hub.repositories:
            raise _Answer(404, {"error": "Repository not found"}, X_Error_Code="RepoNotFound")
        return self.hub.repositories[repo_id]

    def _branch(self, repo_id, name):
        repository = self._repository(repo_id)
        known = repository.branches | repository.snapshots
        if name not in known:
            raise _Answer(404, {"error": "Invalid rev id"}, X_Error_Code="RevisionNotFound")
        return known[name]

    def who_am_i(self):
        raise _Answer(200, {"name": USER, "auth": {"accessToken": {"role": self.hub.role}}})

    def create(self, body):
        asked = json.loads(body)
        repo_id = f"{asked['organization'] or USER}/{asked['name']}"
        answer = {"url": f"{self.hub.url}/{repo_id}", "name": repo_id}
        if repo_id in self.hub.repositories:
            raise _Answer(409, {**answer, "error": "You already created this model repo"})
        is_private = asked.get("visibility") == "private" or bool(asked.get("private"))
        self.hub.repositories[repo_id] = Repository(is_private)
        raise _Answer(200, answer)

    def validate(self, body):
        content = json.loads(body)["content"]
        data = yaml.safe_load(re.match(r"---\n(.*?)\n---\n", content, re.DOTALL)[1])
        errors = []
        for result in [result for model in data.get("model-index", []) for result in model["results"]]:
            if not all(isinstance(result[part]["type"], str) for part in ("task", "dataset")):
                errors.append("type must be a string")
            if not re.fullmatch(r"[\w.-]+(/[\w.-]+)?", result["dataset"]["type"]):
                errors.append("dataset.type must be a name")
            if not all({"type", "value"} <= set(metric) for metric in result["metrics"]):
                errors.append("a metric has type and value")
        raise _Answer(400 if errors else 200, {"errors": [{"message": error} for error in errors], "warnings": []})

    def make_branch(self, repo_id, name, body):
        branches = self._repository(repo_id).branches
        if name in branches:
            raise _Answer(409, {"error": "Reference already exists"})
        branches[name] = dict(branches["main"])
        raise _Answer(200)

    def preupload(self, repo_id, branch, body):
        there = self._branch(repo_id, branch)
        files = []
        for file in json.loads(body)["files"]:
            is_large = file["size"] >= self.hub.lfs_from
            answer = {"path": file["path"], "uploadMode": "lfs" if is_large else "regular", "shouldIgnore": False}
            if file["path"] in there:
                answer["oid"] = _oid(there[file["path"]], is_large)
            files.append(answer)
        raise _Answer(200, {"files": files})

    def large_files(self, repo_id, body):
        self._repository(repo_id)
        objects = []
        for file in json.loads(body)["objects"]:
            oid, size = file["oid"], file["size"]
            header, place = {}, f"{self.hub.url}/lfs/{oid}"
            if size >= self.hub.multipart_from:
                numbers = range(1, -(-size // LFS_PART) + 1)
                header = {"chunk_size": str(LFS_PART)} | {str(number): f"{place}/{number}" for number in numbers}
            actions = {"upload": {"href": place, "header": header}}
            objects.append({"oid": oid, "size": size} | ({} if oid in self.hub.files else {"actions": actions}))
        raise _Answer(200, {"transfer": "basic", "objects": objects})

    def put(self, oid, body):
        self.keep(oid, body)

    def put_part(self, oid, number, body):
        self.hub.parts.setdefault(oid, {})[int(number)] = body
        raise _Answer(200, Etag=f"{oid}-{number}")

    def join(self, oid, body):
        numbers = [part["partNumber"] for part in json.loads(body)["parts"]]
        self.keep(oid, b"".join(self.hub.parts[oid][number] for number in numbers))

    def keep(self, oid, content):
        if hashlib.sha256(content).hexdigest() != oid:
            raise _Answer(400, {"error": "the content is not what was announced"})
        self.hub.files[oid] = content
        raise _Answer(200)

    def commit(self, repo_id, branch, body):
        content = dict(self._branch(repo_id, branch))
        header, *operations = [json.loads(line) for line in body.splitlines()]
        for operation in operations:
            value = operation["value"]
            if operation["key"] == "file":
                content[value["path"]] = base64.b64decode(value["content"])
            elif value["oid"] in self.hub.files:
                content[value["path"]] = self.hub.files[value["oid"]]
            else:
                raise _Answer(400, {"error": f"{value['path']} has not been uploaded"})
        repository = self._repository(repo_id)
        repository.branches[branch] = content
        repository.commits.append(header["value"]["summary"])
        oid = repository.head
        repository.snapshots[oid] = content
        raise _Answer(200, {"commitUrl": f"{self.hub.url}/{repo_id}/commit/{oid}", "commitOid": oid, "success": True})

    def info(self, repo_id, branch=None):
        repository, content = self._repository(repo_id), self._branch(repo_id, branch or "main")
        siblings = [{"rfilename": path} for path in content]
        answer = {"id": repo_id, "sha": repository.head, "private": repository.private, "siblings": siblings}
        raise _Answer(200, answer)

    def file(self, repo_id, branch, path):
        content = self._branch(repo_id, branch).get(path)
        commit = self._repository(repo_id).head
        if content is None:
            raise _Answer(404, X_Error_Code="EntryNotFound", X_Repo_Commit=commit)
        raise _Answer(200, content, ETag=f'"{_oid(content, False)}"', X_Repo_Commit=commit)


def _oid(content, is_large):
    return (hashlib.sha256(content) if is_large else hashlib.sha1(b"blob %d\0" % len(content) + content)).hexdigest()


_REPO, _REV = r"([\w.-]+/[\w.-]+)", r"([\w.-]+)"
_ROUTES = [
    ("GET /api/whoami-v2", _Handler.who_am_i),
    ("POST /api/repos/create", _Handler.create),
    ("POST /api/validate-yaml", _Handler.validate),
    (f"POST /api/models/{_REPO}/branch/{_REV}", _Handler.make_branch),
    (f"POST /api/models/{_REPO}/preupload/{_REV}", _Handler.preupload),
    (rf"POST /{_REPO}\.git/info/lfs/objects/batch", _Handler.large_files),
    (r"PUT /lfs/(\w+)", _Handler.put),
    (r"PUT /lfs/(\w+)/(\d+)", _Handler.put_part),
    (r"POST /lfs/(\w+)", _Handler.join),
    (f"POST /api/models/{_REPO}/commit/{_REV}", _Handler.commit),
    (f"GET /api/models/{_REPO}", _Handler.info),
    (f"GET /api/models/{_REPO}/revision/{_REV}", _Handler.info),
    (f"(?:GET|HEAD) /{_REPO}/resolve/{_REV}/(.+)", _Handler.file),
]
