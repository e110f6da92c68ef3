"""A backend on C-core: the greeter of this repository, and the health service that
comes with grpcio. `tests/interop/README.md` has the protocol between it and the runner.
"""

import argparse
import asyncio
import base64
import collections
import json
import os
import sys

import grpc
from google.protobuf import any_pb2
from google.rpc import status_pb2
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_status import rpc_status

from demo.v1 import greeter_pb2 as pb
from demo.v1 import greeter_pb2_grpc

# A text that cannot stand in a header as it is.
DETAILS = "not today: 100 % naïve – 日本"


class Seen:
    """What the greeter's calls were like."""

    def __init__(self, compresses):
        self.compresses = compresses
        self.calls = 0
        self.cancelled = 0
        self.deadline_ms = 0
        self.metadata = {}
        self.peers = set()
        self.attempts = collections.Counter()

    def began(self, context):
        self.calls += 1
        self.attempts[previous_attempts(context)] += 1
        self.peers.add(context.peer())
        remaining = context.time_remaining()
        self.deadline_ms = int(remaining * 1000) if remaining is not None else 0
        self.metadata = {}
        for name, value in own(context):
            text = base64.b64encode(value).decode() if isinstance(value, bytes) else value
            before = self.metadata.get(name)
            self.metadata[name] = text if before is None else before + "," + text

    def tell(self):
        return json.dumps(
            {
                "calls": self.calls,
                "cancelled": self.cancelled,
                "connections": len(self.peers),
                "deadline_ms": self.deadline_ms,
                "metadata": self.metadata,
                "attempts": self.attempts,
            }
        )


def own(context):
    """The caller's own metadata, which goes back in headers, and again in trailers."""
    return [(k, v) for k, v in context.invocation_metadata() if k.startswith("x-")]


def previous_attempts(context):
    """How many attempts the client made before this one, empty on its first."""
    return dict(context.invocation_metadata()).get("grpc-previous-rpc-attempts", "")


class Call:
    """The life of one call of the greeter."""

    def __init__(self, seen, context):
        self.seen, self.context = seen, context

    async def __aenter__(self):
        self.seen.began(self.context)
        echo = own(self.context)
        self.context.set_trailing_metadata(
            [("x-trailing-" + name[2:], value) for name, value in echo]
        )
        if self.seen.compresses:
            # Not of the whole server: that goes for the health service, too, and whether
            # its clients accept it is not looked at.
            self.context.set_compression(grpc.Compression.Gzip)
        if echo or self.seen.compresses:
            # Otherwise the library decides when headers are sent, as it does for its users. It
            # compresses only after headers that the application sent.
            await self.context.send_initial_metadata(echo)

    async def __aexit__(self, kind, error, trace):
        if kind is asyncio.CancelledError:
            self.seen.cancelled += 1


class Greeter(greeter_pb2_grpc.GreeterServicer):
    def __init__(self, name, seen):
        self.name, self.seen = name, seen

    def reply(self, message):
        return pb.HelloReply(message=message, backend=self.name)

    def holds(self, condition, context):
        """Whether there were fewer attempts before this one, or this backend has the name."""
        if not condition.isdigit():
            return condition == self.name
        return int(previous_attempts(context) or 0) < int(condition)

    async def greet(self, name, context):
        """Does what the name asks for."""
        order, _, argument = name.partition(":")
        if order == "hold":
            await asyncio.Event().wait()
        elif order == "slow":
            await asyncio.sleep(int(argument) / 1000)
        elif order == "size":
            return self.reply("x" * int(argument))
        elif order == "count":
            return self.reply(f"{len(argument)} letters")
        elif order == "fail":
            detail = any_pb2.Any()
            detail.Pack(self.reply("detail"))
            status = status_pb2.Status(code=int(argument), message=DETAILS, details=[detail])
            rich = rpc_status.to_status(status)
            trailing = tuple(context.trailing_metadata()) + tuple(rich.trailing_metadata)
            await context.abort(rich.code, rich.details, trailing)
        elif order == "if":
            condition, _, then = argument.partition(":")
            if self.holds(condition, context):
                return await self.greet(then, context)
        elif order == "headers":
            await context.send_initial_metadata(())
            return await self.greet(argument, context)
        elif order == "pushback":
            millis, _, then = argument.partition(":")
            pushback = ("grpc-retry-pushback-ms", millis)
            context.set_trailing_metadata((*context.trailing_metadata(), pushback))
            return await self.greet(then, context)
        return self.reply(f"Hello {name}!")

    async def SayHello(self, request, context):
        async with Call(self.seen, context):
            return await self.greet(request.name, context)

    async def SayHelloMany(self, request, context):
        async with Call(self.seen, context):
            for _ in range(request.count):
                yield await self.greet(request.name, context)

    async def GreetAll(self, requests, context):
        """Replies with how many letters the names have, as they may be large."""
        async with Call(self.seen, context):
            names = letters = 0
            async for request in requests:
                await self.greet(request.name, context)
                names, letters = names + 1, letters + len(request.name)
            return self.reply(f"{names} names of {letters} letters")

    async def Chat(self, requests, context):
        async with Call(self.seen, context):
            async for request in requests:
                yield await self.greet(request.name, context)


class Backend:
    def __init__(self, server, checker, seen):
        self.server, self.health, self.seen = server, checker, seen
        self.stopping = None

    async def obey(self, line):
        order, _, service = line.partition(" ")
        status = health_pb2.HealthCheckResponse
        if order == "serving":
            await self.health.set(service, status.SERVING)
        elif order == "not_serving":
            await self.health.set(service, status.NOT_SERVING)
        elif order == "stop":
            self.stopping = asyncio.create_task(self.server.stop(grace=60))
        elif order == "retire":
            await self.health.enter_graceful_shutdown()
            self.stopping = asyncio.create_task(self.server.stop(grace=60))
        elif order == "seen":
            return self.seen.tell()
        else:
            return "no such order"
        return "ok"

    async def control(self, reader, writer):
        while line := await reader.readline():
            answer = await self.obey(line.decode().rstrip("\r\n"))
            writer.write(answer.encode() + b"\n")
            await writer.drain()
        writer.close()


async def until_the_runner_is_gone():
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    await reader.read()
    os._exit(1)


async def main():
    arguments = argparse.ArgumentParser()
    arguments.add_argument("--name", default="python")
    arguments.add_argument("--health", default="", help="SERVICE=STATUS,…")
    arguments.add_argument("--no-health", action="store_true")
    arguments.add_argument("--gzip", action="store_true", help="compressed replies")
    arguments.add_argument("--max-age-ms", type=int)
    arguments.add_argument("--grace-ms", type=int, default=0)
    arguments.add_argument("--cert")
    arguments.add_argument("--key")
    given = arguments.parse_args()

    options = []
    if given.max_age_ms:
        options.append(("grpc.max_connection_age_ms", given.max_age_ms))
        options.append(("grpc.max_connection_age_grace_ms", given.grace_ms))
    server = grpc.aio.server(options=options)
    seen = Seen(given.gzip)
    greeter_pb2_grpc.add_GreeterServicer_to_server(Greeter(given.name, seen), server)
    checker = health.aio.HealthServicer()
    for each in filter(None, given.health.split(",")):
        service, _, status = each.partition("=")
        await checker.set(service, health_pb2.HealthCheckResponse.ServingStatus.Value(status))
    if not given.no_health:
        health_pb2_grpc.add_HealthServicer_to_server(checker, server)
    if given.cert:
        with open(given.key, "rb") as key, open(given.cert, "rb") as cert:
            credentials = grpc.ssl_server_credentials([(key.read(), cert.read())])
        port = server.add_secure_port("127.0.0.1:0", credentials)
    else:
        port = server.add_insecure_port("127.0.0.1:0")

    watcher = asyncio.create_task(until_the_runner_is_gone())
    backend = Backend(server, checker, seen)
    orders = await asyncio.start_server(backend.control, "127.0.0.1", 0)
    await server.start()
    ports = {"grpc": port, "control": orders.sockets[0].getsockname()[1]}
    print(json.dumps({**ports, "version": f"grpcio {grpc.__version__}"}), flush=True)
    await server.wait_for_termination()
    await backend.stopping
    watcher.cancel()
    os._exit(0)


asyncio.run(main())
