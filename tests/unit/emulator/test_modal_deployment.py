"""What a deploy brings, piece by piece: images, files, secrets; and how a function comes out of its message."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
from grpclib.exceptions import GRPCError
from modal_proto import api_pb2
from multidict import MultiDict

from emulator.engine.clock import VirtualClock
from emulator.modal.addresses import Addresses
from emulator.modal.blobs import BlobStore
from emulator.modal.deployed import created, definition_of, unsupported
from emulator.modal.ids import Ids
from emulator.modal.images import Images, instructions
from emulator.modal.logs import Logs
from emulator.modal.mounts import Mounts
from emulator.modal.rpc import Caller
from emulator.modal.stored import Stored, secrets_from
from yapit.errors import ConfigurationError

CALLER = Caller(MultiDict())


async def image(images: Images, *commands: str, base: str = "") -> str:
    bases = [api_pb2.BaseImage(docker_tag="base", image_id=base)] if base else []
    definition = api_pb2.Image(dockerfile_commands=commands, base_images=bases)
    answer = await images.image_get_or_create(api_pb2.ImageGetOrCreateRequest(image=definition), CALLER)
    assert answer.result.status == api_pb2.GenericResult.GENERIC_STATUS_SUCCESS
    return str(answer.image_id)


async def test_an_image_hands_on_its_variables_and_its_folder() -> None:
    images = Images(Ids())
    base = await image(images, "FROM python", "ENV A=1 B='two words'", "WORKDIR /app")
    made = images.get(
        await image(images, "FROM base", "ENV C=$A-${B} A=3", "ENV OLD the rest", "WORKDIR sub", base=base)
    )
    assert made.variables == {"A": "3", "B": "two words", "C": "1-two words", "OLD": "the rest"}
    assert made.workdir == "/app/sub"


async def test_the_same_image_is_the_same_again() -> None:
    images = Images(Ids())
    assert await image(images, "ENV A=1") == await image(images, "ENV A=1")
    assert await image(images, "ENV A=1") != await image(images, "ENV A=2")


def test_instructions_go_on_after_a_backslash_and_comments_are_none() -> None:
    lines = ["# FROM nowhere", "ENV A=1 \\", "# between", "    B=2", "", "copy . ."]
    assert list(instructions(lines)) == [("ENV", "A=1      B=2"), ("COPY", ". .")]


@pytest.fixture
def mounts() -> Mounts:
    ids = Ids()
    return Mounts(ids, BlobStore(VirtualClock(), ids, Addresses("http://127.0.0.1:1")))


async def put(mounts: Mounts, content: bytes, digest: str | None = None) -> str:
    digest = digest or hashlib.sha256(content).hexdigest()
    answer = await mounts.put_file(api_pb2.MountPutFileRequest(sha256_hex=digest, data=content), CALLER)
    assert answer.exists
    return digest


async def mount(mounts: Mounts, **files: str) -> str:
    request = api_pb2.MountGetOrCreateRequest(
        files=[
            api_pb2.MountFile(filename=name.replace("__", "/"), sha256_hex=digest, mode=0o100755)
            for name, digest in files.items()
        ]
    )
    return str((await mounts.get_or_create(request, CALLER)).mount_id)


async def test_uploaded_files_lie_where_the_mounts_say_and_later_ones_win(mounts: Mounts, tmp_path: Path) -> None:
    one, two = await put(mounts, b"one"), await put(mounts, b"two")
    asked = api_pb2.MountBatchedCheckExistenceRequest(sha256_hex_hashes=[one, "0" * 64])
    assert (await mounts.check_existence(asked, CALLER)).missing_sha256_hex_hashes == ["0" * 64]
    first = await mount(mounts, __root__a=one, __root__b=one)
    second = await mount(mounts, __root__b=two)
    mounts.unpack((first, second), tmp_path)
    assert ((tmp_path / "root/a").read_bytes(), (tmp_path / "root/b").read_bytes()) == (b"one", b"two")
    assert (tmp_path / "root/a").stat().st_mode & 0o777 == 0o755
    mounts.close()


async def test_a_file_with_another_hash_is_refused(mounts: Mounts) -> None:
    with pytest.raises(GRPCError, match="has another SHA-256"):
        await put(mounts, b"one", "0" * 64)
    unknown = api_pb2.MountPutFileRequest(sha256_hex="0" * 64)
    assert not (await mounts.put_file(unknown, CALLER)).exists


async def test_no_file_leads_out_of_the_container(mounts: Mounts) -> None:
    digest = await put(mounts, b"one")
    for name in ("__root__..__..__etc__passwd", "root__a"):
        with pytest.raises(GRPCError, match="needs an absolute path"):
            await mount(mounts, **{name: digest})
    mounts.close()


async def test_a_mount_of_files_that_were_not_uploaded_is_refused(mounts: Mounts) -> None:
    with pytest.raises(GRPCError, match="were not uploaded: /root/a"):
        await mount(mounts, __root__a="0" * 64)


async def test_a_secret_that_exists_is_kept_replaced_or_refused_as_asked() -> None:
    stored = Stored(Ids())
    stored.set_secret("token", {"KEY": "1"})

    async def create(kind: api_pb2.ObjectCreationType.ValueType) -> str:
        request = api_pb2.SecretGetOrCreateRequest(
            deployment_name="token", object_creation_type=kind, env_dict={"KEY": "2"}
        )
        return str((await stored.secret_get_or_create(request, CALLER)).secret_id)

    with pytest.raises(GRPCError, match="exists already"):
        await create(api_pb2.OBJECT_CREATION_TYPE_CREATE_FAIL_IF_EXISTS)
    kept = await create(api_pb2.OBJECT_CREATION_TYPE_CREATE_IF_MISSING)
    assert stored.secret_values(kept) == {"KEY": "1"}
    assert await create(api_pb2.OBJECT_CREATION_TYPE_CREATE_OVERWRITE_IF_EXISTS) == kept
    assert stored.secret_values(kept) == {"KEY": "2"}


async def test_a_secret_that_comes_with_every_deploy_is_one() -> None:
    stored = Stored(Ids())

    async def bring(value: str) -> str:
        request = api_pb2.SecretGetOrCreateRequest(env_dict={"KEY": value})
        return str((await stored.secret_get_or_create(request, CALLER)).secret_id)

    assert await bring("1") == await bring("1")
    assert await bring("1") != await bring("2")


def test_secrets_from_a_file(tmp_path: Path) -> None:
    path = tmp_path / "secrets.json"
    path.write_text('{"hf": {"HF_TOKEN": "1"}}')
    assert secrets_from(path) == {"hf": {"HF_TOKEN": "1"}}
    path.write_text('["hf"]')
    with pytest.raises(ConfigurationError, match="not a file of secrets"):
        secrets_from(path)


async def test_only_one_environment_is_there() -> None:
    stored = Stored(Ids())
    with pytest.raises(GRPCError, match="the emulator has one, 'main'"):
        await stored.environment_get_or_create(api_pb2.EnvironmentGetOrCreateRequest(deployment_name="staging"), CALLER)


def test_how_a_function_scales_is_read_from_its_message() -> None:
    scaling = api_pb2.AutoscalerSettings(min_containers=1, max_containers=4, buffer_containers=2, scaledown_window=30)
    function = api_pb2.Function(
        function_name="batched", autoscaler_settings=scaling, batch_max_size=3, max_concurrent_inputs=2, timeout_secs=20
    )
    settings = definition_of("app", function, lambda *_: pytest.fail("no container is needed")).settings
    limits = settings.limits
    assert (limits.min_workers, limits.max_workers, limits.buffer_workers) == (1, 4, 2)
    assert (limits.concurrency, limits.idle_timeout_s, settings.timeout_s) == (6, 30.0, 20.0)


def test_what_is_not_emulated_is_told_to_the_person_deploying() -> None:
    function = api_pb2.Function(
        function_name="f",
        volume_mounts=[api_pb2.VolumeMount(mount_path="/models")],
        experimental_options={"enable_gpu_snapshot": "1"},
        schedule=api_pb2.Schedule(period=api_pb2.Schedule.Period(days=1)),
    )
    told = unsupported(function)
    assert [any(word in line for line in told) for word in ("volumes", "GPU", "schedule")] == [True] * 3
    assert unsupported(api_pb2.Function(function_name="f")) == []


def test_of_several_gpus_the_first_is_taken() -> None:
    ranked = [api_pb2.FunctionData.RankedFunction(rank=n, function=api_pb2.Function(app_name=str(n))) for n in (0, 1)]
    request = api_pb2.FunctionCreateRequest(function_data=api_pb2.FunctionData(ranked_functions=ranked))
    assert created(request).app_name == "0"


async def test_logs_are_counted_by_time_and_found_by_text() -> None:
    clock = VirtualClock(starts_at=1_000.0)
    logs = Logs(clock)
    for text in ("one", "two", "one more"):
        logs.add("ap-1", "fu-1", "ta-1", text)
        await clock.advance(10)
    logs.add("ap-2", "fu-2", "ta-2", "one of another app")
    until = {"seconds": 2_000}
    count = api_pb2.AppCountLogsRequest(app_id="ap-1", since={"seconds": 1_000}, until=until, bucket_secs=20)
    buckets = (await logs.count(count, CALLER)).buckets
    assert [(bucket.bucket_start_at.seconds, bucket.stdout_logs) for bucket in buckets] == [(1_000, 2), (1_020, 1)]
    fetch = api_pb2.AppFetchLogsRequest(app_id="ap-1", until=until, search_text="one")
    found = (await logs.fetch(fetch, CALLER)).batches
    assert [item.data for batch in found for item in batch.items] == ["one\n", "one more\n"]
