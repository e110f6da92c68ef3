"""A client on C-core that watches the health of a server. `tests/interop/README.md` has what
it prints.
"""

import argparse
import asyncio
import json
import os
import sys

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc


def say(line):
    print(line, flush=True)


def stub(channel):
    return health_pb2_grpc.HealthStub(channel)


async def watch(address, service):
    """Prints each message of a `Watch`, and the code of its end."""
    request = health_pb2.HealthCheckRequest(service=service)
    names = health_pb2.HealthCheckResponse.ServingStatus
    channel = grpc.aio.insecure_channel(address)
    call = stub(channel).Watch(request, wait_for_ready=True)
    try:
        async for response in call:
            say(f"{service} watch {names.Name(response.status)}")
    except grpc.aio.AioRpcError:
        pass  # Its code is that of the call.
    code = await call.code()
    say(f"{service} watch end {code.value[0]}")


async def follow(address, service):
    """Prints each state of a channel with health checks that decides about calls, with the
    code of a call in that state.
    """
    config = {
        "loadBalancingConfig": [{"round_robin": {}}],
        "healthCheckConfig": {"serviceName": service},
    }
    options = [("grpc.service_config", json.dumps(config))]
    channel = grpc.aio.insecure_channel(address, options)
    states = grpc.ChannelConnectivity
    while True:
        state = channel.get_state(try_to_connect=True)
        if state in (states.READY, states.TRANSIENT_FAILURE):
            code = await code_of_a_call(channel)
            say(f"{service} channel {state.name} {code}")
        await channel.wait_for_state_change(state)


async def code_of_a_call(channel):
    try:
        await stub(channel).Check(health_pb2.HealthCheckRequest())
    except grpc.aio.AioRpcError as failed:
        return failed.code().value[0]
    return 0


async def main():
    arguments = argparse.ArgumentParser()
    arguments.add_argument("--address", required=True, help="HOST:PORT of the server")
    arguments.add_argument("--services", required=True, help="SERVICE,…")
    given = arguments.parse_args()
    say(f"version grpcio {grpc.__version__}")
    tasks = [
        asyncio.create_task(each(given.address, service))
        for service in given.services.split(",")
        for each in (watch, follow)
    ]
    loop = asyncio.get_running_loop()
    runner = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(runner), sys.stdin)
    either = [asyncio.create_task(runner.read()), asyncio.gather(*tasks)]
    done, _ = await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
    for one in done:
        one.result()  # A task that failed shows its error here.
    os._exit(0)


asyncio.run(main())
