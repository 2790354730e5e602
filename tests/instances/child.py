"""A program that serves one account, and misbehaves as its arguments and the files beside it say."""
import argparse, http.server, json, os, signal, sys, time

signal.alarm(300)  # What a killed test left behind ends by itself.
parser = argparse.ArgumentParser()
parser.add_argument("--port", type=int, required=True)
parser.add_argument("--id", required=True)
parser.add_argument("--auth")
parser.add_argument("--exit", type=int, help="say something and end with this status")
parser.add_argument("--stubborn", action="store_true", help="ignore SIGTERM, like the child it starts")
parser.add_argument("--lines", type=int, default=0, help="so many lines of output")
it = parser.parse_args()


def named(what):
    return f"{it.id}.{what}"


with open(named("starts"), "a") as starts:
    starts.write(f"{os.getpid()}\n")
if it.exit is not None:
    print("a bad day", file=sys.stderr, flush=True)
    os._exit(it.exit)
if it.stubborn:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    if os.fork() == 0:
        signal.alarm(300)
        with open(named("grandchild"), "w") as file:
            file.write(str(os.getpid()))
        while True:
            time.sleep(1)


class Account(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = -1  # Head and body in one write: an answer is there as a whole or not at all.

    def answer(self, status, body):
        text = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def do_GET(self):
        while os.path.exists(named("hangs")):
            time.sleep(0.01)
        if os.path.exists(named("late")):
            time.sleep(2)
        self.answer(503 if os.path.exists(named("unready")) else 200, {"status": "OK"})

    def do_POST(self):
        self.rfile.read(int(self.headers["content-length"]))
        while os.path.exists(named("slow")):
            time.sleep(0.01)
        descriptors = {n: os.readlink(f"/proc/self/fd/{n}") for n in os.listdir("/proc/self/fd") if os.path.exists(f"/proc/self/fd/{n}")}
        message = {"role": "assistant", "content": it.id}
        self.answer(200, {
            "object": "chat.completion", "model": "m", "pid": os.getpid(), "group": os.getpgrp(), "auth": it.auth,
            "environment": dict(os.environ), "folder": os.getcwd(), "descriptors": descriptors,
            "choices": [{"index": 0, "message": message, "finish_reason": "stop"}]})

    def log_message(self, *_):
        pass


class Server(http.server.ThreadingHTTPServer):
    daemon_threads = True


server = Server(("127.0.0.1", it.port), Account)
print(f"{it.id} listens", flush=True)
print("something is odd", file=sys.stderr, flush=True)
for n in range(it.lines):
    print(f"line {n}", flush=True)
server.serve_forever()
