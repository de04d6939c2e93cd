"""One HTTP request to a web endpoint, on its way to the call that answers it and back."""

from __future__ import annotations

import asyncio

from starlette.responses import PlainTextResponse, RedirectResponse, Response
from starlette.types import Message, Receive, Scope, Send

from emulator.engine.clock import Clock
from emulator.engine.jobs import FOREVER_S, Job, JobState
from emulator.modal import facts
from emulator.modal.call import FunctionCall
from emulator.modal.web_exchange import WebExchange


class BrokenOff(ConnectionError):
    """The container failed after the response had begun: the server closes the socket, for want of anything better."""


class WebRequest:
    """`call` answers it, or if that takes too long, a redirection to `result_url`."""

    def __init__(
        self, call: FunctionCall, clock: Clock, scope: Scope, receive: Receive, send: Send, *, result_url: str
    ) -> None:
        self._clock, self._scope, self._receive, self._send = clock, scope, receive, send
        self._result_url = result_url
        self._job: Job = call.inputs[0].job
        self._exchange: WebExchange = self._job.input.web
        self._is_polling = facts.WEB_CALL_PARAMETER.encode() in scope["query_string"]
        self._has_begun = self._is_complete = self._is_redirected = False
        self.is_over = False
        """Whether nobody will ask for the call any more."""

    async def serve(self) -> None:
        """Whoever hangs up cancels the call, unless it had been redirected to its result."""
        listening, answering = asyncio.create_task(self._listen()), asyncio.create_task(self._answer())
        try:
            await asyncio.wait((listening, answering), return_when=asyncio.FIRST_COMPLETED)
            if listening.done() and listening.exception():
                answering.cancel()
                await asyncio.gather(answering, return_exceptions=True)
                if not self._has_begun:
                    await self._send_response(PlainTextResponse(str(listening.exception()), status_code=413))
            elif answering.done():
                answering.result()
        finally:
            for task in (listening, answering):
                task.cancel()
            await asyncio.gather(listening, answering, return_exceptions=True)
            # a server tells of a disconnect also once the response is out, and what goes on after it may go on
            is_left = self._is_polling or self._is_complete
            if not (self._is_redirected or (is_left and not self._job.state.is_final)):
                self._job.cancel()
                self.is_over = True

    async def _listen(self) -> None:
        """Until the client leaves, which the function is told, unless it was sent to where the result will be. Raises
        `BodyTooLarge`."""
        is_there = True
        while is_there:
            message = await self._receive()
            is_there = message["type"] != "http.disconnect"
            if not (self._is_polling or self._is_redirected):
                self._exchange.put(message)

    async def _answer(self) -> None:
        give_up_at = self._clock.now() + facts.WEB_TIMEOUT_S
        while True:
            while messages := self._job.drain():
                for message in messages:
                    await self._pass_on(message)
            if self._job.state.is_final:
                await self._end()
                return
            remaining_s = FOREVER_S if self._has_begun else give_up_at - self._clock.now()
            if remaining_s <= 0:
                self._is_redirected = True
                await self._send_response(RedirectResponse(self._result_url, status_code=303))
                return
            await self._job.changed(remaining_s)

    async def _pass_on(self, message: Message) -> None:
        if message["type"] == "http.response.start" and self._has_begun:
            raise BrokenOff("another container began again")
        self._has_begun = True
        await self._send(message)
        self._is_complete = message["type"] == "http.response.body" and not message.get("more_body", False)

    async def _end(self) -> None:
        if self._job.state is JobState.COMPLETED and self._has_begun:
            return
        if self._has_begun:
            raise BrokenOff(self._job.error)
        reason = self._job.error or "the function sent no response"
        await self._send_response(PlainTextResponse(f"modal-http: internal error: {reason}", status_code=500))

    async def _send_response(self, response: Response) -> None:
        await response(self._scope, self._receive, self._send)
