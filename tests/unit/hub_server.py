"""A stand-in for the hub on 127.0.0.1, which speaks as much of its API as an upload by huggingface_hub needs."""

from __future__ import annotations

import base64
import hashlib
import json
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote


class Hub:
    """What the stand-in holds: repositories with files by branch, and every request with its token."""

    def __init__(self, *, lfs=(), token="hf_right", public=()):
        self.repos = {name: {"private": False, "branches": {"main": {}}} for name in public}
        self.blobs: dict[str, bytes] = {}
        self.requests: list[tuple[str, str, str]] = []
        self.messages: list[str] = []
        self.lfs, self.token = lfs, token

    def answer(self, handler, path, body):  # noqa: PLR0911 (one return a kind of request)
        parts = unquote(path.split("?")[0]).strip("/").split("/")
        if parts[:1] == ["blobs"]:
            assert hashlib.sha256(body).hexdigest() == parts[1]
            self.blobs[parts[1]] = body
            return 200, {}
        if handler.headers.get("authorization") != f"Bearer {self.token}":
            return 401, {"error": "Invalid username or password."}
        if parts == ["api", "validate-yaml"]:
            return 200, {"errors": [], "warnings": []}
        if parts == ["api", "repos", "create"]:
            asked = json.loads(body)
            name = f"{asked['organization']}/{asked['name']}"
            url = {"url": f"{handler.server.address}/{name}"}
            if name in self.repos:
                return 409, {**url, "error": "You already created this model repo"}
            self.repos[name] = {"private": asked.get("visibility") == "private", "branches": {"main": {}}}
            return 200, url
        if parts[-4:] == ["info", "lfs", "objects", "batch"]:
            objects = [
                {**item, "actions": {"upload": {"href": f"{handler.server.address}/blobs/{item['oid']}", "header": {}}}}
                for item in json.loads(body)["objects"]
            ]
            return 200, {"transfer": "basic", "objects": objects}
        return self._in_repo(handler, "/".join(parts[2:4]), parts[4:], body)

    def _in_repo(self, handler, name, rest, body):  # noqa: PLR0911
        if name not in self.repos:
            return 404, {"error": "Repository not found"}
        repo = self.repos[name]
        if not rest or rest[0] == "revision":
            return 200, {"id": name, "private": repo["private"], "sha": "0" * 40, "siblings": [], "tags": []}
        branch = "/".join(rest[1:])
        if rest[0] == "branch":
            if branch in repo["branches"]:
                return 409, {"error": "Reference already exists"}
            repo["branches"][branch] = {}
            return 200, {}
        if branch not in repo["branches"]:
            return 404, {"error": "Invalid rev id"}
        if rest[0] == "preupload":
            files = [
                {"path": f["path"], "uploadMode": "lfs" if f["path"].endswith(self.lfs) else "regular", "shouldIgnore": False}
                for f in json.loads(body)["files"]
            ]  # fmt: skip
            return 200, {"files": files}
        assert rest[0] == "commit", rest
        self._written(repo["branches"][branch], body)
        return 200, {"commitUrl": f"{handler.server.address}/{name}/commit/{'0' * 40}", "commitOid": "0" * 40}

    def _written(self, files, body):
        """Write what a commit holds, an entry a line."""
        for line in body.splitlines():
            entry = json.loads(line)
            value = entry["value"]
            if entry["key"] == "header":
                self.messages.append(value["summary"])
            elif entry["key"] == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            else:
                files[value["path"]] = self.blobs[value["oid"]]


@contextmanager
def serving(hub):
    """Serve a hub inside a block; yields its address."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def handle_one(self):
            body = self.rfile.read(int(self.headers.get("content-length") or 0))
            hub.requests.append((self.command, self.path, self.headers.get("authorization") or ""))
            status, content = hub.answer(self, self.path, body)
            raw = json.dumps(content).encode()
            self.send_response(status)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(raw)))
            if status in {401, 404}:
                self.send_header("x-error-code", "RepoNotFound")
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(raw)

        do_GET = do_POST = do_PUT = do_HEAD = handle_one  # noqa: N815 (names of http.server)

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.address = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield server.address
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
