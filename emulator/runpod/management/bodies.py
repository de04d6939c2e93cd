"""Bodies of the management API's requests [V2]. All refuse fields that they do not know."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

import pydantic

from emulator.runpod.management import rules

Name = Annotated[str, pydantic.Field(min_length=1)]
CudaVersion = Annotated[str, pydantic.Field(pattern=r"^\d+\.\d+$")]
EndpointTypeName = Literal["QUEUE", "LOAD_BALANCER"]
FlashBoot = Literal["OFF", "FLASHBOOT", "PRIORITY_FLASHBOOT"]


class Body(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(extra="forbid", strict=True)

    @pydantic.model_validator(mode="before")
    @classmethod
    def _has_no_nulls(cls, data: Any) -> Any:
        """`None` stands for what was left out here; only a registry may be set to null [V2]."""
        if isinstance(data, dict):
            for key, value in data.items():
                if value is None and key != "registry":
                    raise ValueError(f"property '{key}' must not be null")
        return data

    def given(self) -> dict[str, Any]:
        """What the request says, without what it leaves out."""
        return self.model_dump(exclude_unset=True)


class Container(Body):
    """What templates and endpoints share. `args` go to the image's entrypoint; `disk` in GB."""

    image: Name | None = None
    args: str | None = None
    disk: Annotated[int, pydantic.Field(ge=1)] | None = None
    env: dict[str, str] | None = None
    ports: list[Annotated[str, pydantic.Field(pattern=r"^\d{1,5}/(http|tcp)$")]] | None = None
    registry: str | None = None


CONTAINER_FIELDS = tuple(Container.model_fields)


class Gpu(Body):
    """Cards of the pools, without the excluded types."""

    pools: Annotated[list[str], pydantic.Field(min_length=1)]
    excludedTypes: list[str] = []
    count: Annotated[int, pydantic.Field(ge=1)] = 1
    allowedCudaVersions: list[CudaVersion] = []
    minCudaVersion: CudaVersion | None = None


class PatchGpu(Body):
    """New pools replace the excluded types as well; `minCudaVersion: ""` takes the floor away."""

    pools: Annotated[list[str], pydantic.Field(min_length=1)] | None = None
    excludedTypes: list[str] | None = None
    count: Annotated[int, pydantic.Field(ge=1)] | None = None
    allowedCudaVersions: list[CudaVersion] | None = None
    minCudaVersion: Annotated[str, pydantic.Field(pattern=r"^$|^\d+\.\d+$")] | None = None

    @pydantic.model_validator(mode="after")
    def _excludes_from_pools(self) -> Self:
        if self.excludedTypes is not None and self.pools is None:
            raise ValueError("properties 'pools' required, if 'excludedTypes' exists")
        return self


class Cpu(Body):
    id: Name
    vcpuCount: Annotated[int, pydantic.Field(ge=2)]


class Workers(Body):
    """`idleTimeout` in seconds."""

    min: Annotated[int, pydantic.Field(ge=0)] = rules.DEFAULT_MIN_WORKERS
    max: Annotated[int, pydantic.Field(ge=0)] = rules.DEFAULT_MAX_WORKERS
    idleTimeout: Annotated[int, pydantic.Field(ge=1, le=3_600)] | None = None


class QueueDelay(Body):
    """Seconds that requests may wait before another worker is started."""

    type: Literal["QUEUE_DELAY"]
    queueDelay: Annotated[float, pydantic.Field(ge=0.5)]


class RequestCount(Body):
    type: Literal["REQUEST_COUNT"]
    requestCount: Annotated[int, pydantic.Field(ge=1)]


Scaling = Annotated[QueueDelay | RequestCount, pydantic.Field(discriminator="type")]


class _EndpointBody(Container):
    """`timeout` in milliseconds."""

    cpu: Annotated[list[Cpu], pydantic.Field(min_length=1)] | None = None
    dataCenterIds: list[str] | None = None
    flashboot: FlashBoot | None = None
    networkVolumes: list[str] | None = None
    templateId: Name | None = None
    timeout: Annotated[int, pydantic.Field(ge=0)] | None = None
    workers: Workers | None = None


class CreateEndpoint(_EndpointBody):
    name: Name
    type: EndpointTypeName
    scaling: Scaling
    gpu: Gpu | None = None


class PatchEndpoint(_EndpointBody):
    """Without `type`: it cannot change."""

    name: Name | None = None
    scaling: Scaling | None = None
    gpu: PatchGpu | None = None


class PersistentMount(Body):
    size: Annotated[int, pydantic.Field(ge=10)]
    path: str


class Mounts(Body):
    persistent: PersistentMount | None = None


class PatchTemplate(Container):
    name: Name | None = None
    allowedCudaVersions: list[CudaVersion] = []
    category: Literal["AMD", "CPU", "NVIDIA"] = "NVIDIA"
    mounts: Mounts = Mounts()
    public: bool = False
    serverless: bool = False
    startJupyter: bool = True
    startSsh: bool = True


class CreateTemplate(PatchTemplate):
    name: Name
    image: Name


class CreateRegistry(Body):
    name: Name
    username: Name
    password: pydantic.SecretStr

    @pydantic.field_validator("password")
    @classmethod
    def _is_given(cls, password: pydantic.SecretStr) -> pydantic.SecretStr:
        if not password.get_secret_value():
            raise ValueError("minLength: got 0, want 1")
        return password


VolumeSizeGb = Annotated[int, pydantic.Field(ge=10, le=4_096)]


class CreateVolume(Body):
    name: Name
    size: VolumeSizeGb
    dataCenter: Name
    type: Literal["STANDARD", "HIGH_PERFORMANCE"] = "STANDARD"


class PatchVolume(Body):
    name: Name | None = None
    size: VolumeSizeGb | None = None

    @pydantic.model_validator(mode="after")
    def _says_something(self) -> Self:
        if not self.model_fields_set:
            raise ValueError("minProperties: got 0, want 1")
        return self
