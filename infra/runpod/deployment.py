"""plan, deploy and destroy: each may be repeated, and the second time finds nothing to do."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass, replace

from infra import smoke
from infra.images.contents import content_tag, image_reference
from infra.images.provide import provide
from infra.routes_file import Entry, completed, put_entry, read_entries, remove_entry
from infra.runpod.desired import Compute, EndpointType, Wanted
from infra.runpod.management import ManagementClient
from infra.runpod.plan import Plan, plan
from infra.runpod.settings import RunpodSettings, Target
from infra.runpod.watch import WorkerWatch
from yapit.errors import DeploymentFailed, YapitError
from yapit.function_spec import FunctionSpec, functions_root


@dataclass(frozen=True, slots=True)
class Deployment:
    """One function at one target. Every method raises `ConfigurationError` or `DeploymentFailed`."""

    spec: FunctionSpec
    type: EndpointType
    compute: Compute
    target: Target
    settings: RunpodSettings
    client: ManagementClient

    def plan(self) -> str:
        """What `deploy` would do. Changes nothing."""
        wanted = self._wanted()
        lines = [str(self._planned(wanted)), f"{self.settings.tts_processors_file}: {wanted.slug}"]
        if self._lacks_registry(wanted):
            lines.append(f"registry credentials for {wanted.registry_host}: made")
        return "\n".join(lines)

    def deploy(self) -> str:
        """Build, push, create or change the endpoint, speak one sentence through it, and only then write its route."""
        wanted = self._wanted()
        print(planned := self._planned(wanted), file=sys.stderr, flush=True)
        if "image" in planned.changes:
            self._provide_image(wanted)
        if self._lacks_registry(wanted):
            wanted = replace(wanted, registry=self._make_registry(wanted.registry_host))
            planned = self._planned(wanted)
        endpoint_id = self._apply(planned)
        entry = self._entry(wanted, endpoint_id)
        spoken = self._try(entry, endpoint_id)
        is_new = put_entry(self.settings.tts_processors_file, entry)
        route = f"{self.settings.tts_processors_file}: {wanted.slug} {'is' if is_new else 'was already'} {endpoint_id}"
        return f"{spoken}\n{route}"

    def destroy(self) -> str:
        """The route first: nobody is sent to an endpoint that is going."""
        wanted = Wanted(self.spec, self.type, self.compute, image="")
        found = self.client.find(wanted.name)
        had_route = remove_entry(self.settings.tts_processors_file, wanted.slug)
        if found:
            self.client.delete(found["id"])
        endpoint = f"the endpoint {wanted.name} ({found['id']}) is deleted" if found else f"no endpoint {wanted.name}"
        return f"{endpoint}; {'its route is removed' if had_route else f'no route {wanted.slug}'}"

    def _wanted(self) -> Wanted:
        wanted = Wanted(self.spec, self.type, self.compute, self._image())
        if not self.settings.has_registry_login:
            return wanted
        return replace(wanted, registry=self.client.registry_named(wanted.registry_host))

    def _lacks_registry(self, wanted: Wanted) -> bool:
        return self.settings.has_registry_login and wanted.registry is None

    def _image(self) -> str:
        if self.settings.image:
            return self.settings.image
        root = functions_root().parent
        if self.target == "emulator":
            return f"emulator/yapit-{self.spec.name}:{content_tag(self.spec.name, root)}"
        return image_reference(self.spec.name, root, self.settings.image_registry)

    def _planned(self, wanted: Wanted) -> Plan:
        return plan(wanted, self.client.find(wanted.name))

    def _provide_image(self, wanted: Wanted) -> None:
        if self.settings.image:
            print(f"image {wanted.image}: taken as it is (IMAGE)", file=sys.stderr, flush=True)
        elif self.target == "emulator":
            print("image: not built, the emulator runs the function's folder", file=sys.stderr, flush=True)
        else:
            root = functions_root().parent
            dockerfile = functions_root() / self.spec.name / "Dockerfile"
            provide(wanted.image, dockerfile, root, engine=self.settings.container_engine)

    def _make_registry(self, host: str) -> str:
        print(f"registry credentials for {host}: made", file=sys.stderr, flush=True)
        password = self.settings.registry_password.get_secret_value()
        return self.client.create_registry(host, self.settings.registry_username, password)

    def _apply(self, planned: Plan) -> str:
        if planned.endpoint_id is None:
            return str(self.client.create(planned.changes)["id"])
        if planned.changes:
            self.client.patch(planned.endpoint_id, planned.changes)
        return planned.endpoint_id

    def _entry(self, wanted: Wanted, endpoint_id: str) -> Entry:
        """The route; what somebody set in it by hand stays."""
        return completed(wanted.route(endpoint_id), read_entries(self.settings.tts_processors_file))

    def _try(self, entry: Entry, endpoint_id: str) -> smoke.Spoken:
        watch = WorkerWatch(self.client, endpoint_id)
        try:
            environ = {**os.environ, **self.settings.gateway_environ()}
            return smoke.speak_once(self.spec, entry, environ, watch.look, patience_s=FIRST_START_S)
        except DeploymentFailed as error:
            raise DeploymentFailed(f"{error}\n{self._account(watch)}\n{_LEFT.format(endpoint_id)}") from None

    def _account(self, watch: WorkerWatch) -> str:
        try:
            return watch.account()
        except YapitError as error:
            return f"its workers' logs cannot be had: {error}"


FIRST_START_S = 900.0
"""How long the first worker may take: RunPod fetches an image of gigabytes before it starts."""
_LEFT = "the route was not written; the endpoint {} stays: mend it and deploy again, or make destroy-runpod"
