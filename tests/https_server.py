# SPDX-License-Identifier: Apache-2.0
"""A server of a folder under https:// addresses: urllib does all that it does, over a connection without encryption."""

import http.client
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from threading import Event, Thread


class _Handler(SimpleHTTPRequestHandler):
    """Sends files. `server.redirects` says which paths lead elsewhere; in the middle, `cut` ends, `pause` waits."""

    def do_GET(self):
        self.server.asked.append(self.path)
        if self.path in self.server.redirects:
            self.send_response(302)
            self.send_header("Location", self.server.redirects[self.path])
            self.end_headers()
        else:
            super().do_GET()

    def copyfile(self, source, outputfile):
        content = source.read()
        half = len(content) // 2
        outputfile.write(content[:half])
        self.server.paused.wait(self.server.pause)
        if not self.server.cut:
            outputfile.write(content[half:])

    def log_message(self, *arguments):
        pass


class _Connection(http.client.HTTPConnection):
    def __init__(self, host, context=None, check_hostname=None, **settings):
        super().__init__(host, **settings)


@contextmanager
def https_server(folder, monkeypatch):
    """Serve a folder; gives the server, with `address(name)` and the list `asked` of the paths that were asked for."""
    monkeypatch.setattr(http.client, "HTTPSConnection", _Connection)
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(_Handler, directory=str(folder)))
    server.asked, server.redirects, server.cut, server.pause, server.paused = [], {}, False, 0, Event()
    server.address = lambda name: f"https://127.0.0.1:{server.server_port}/{name}"
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield server
    finally:
        server.paused.set()
        server.shutdown()
        thread.join()
        server.server_close()
