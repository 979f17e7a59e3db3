"""Where requests come in and go out: may it, is it within its limits, what did it take."""

import time
from typing import Final, NamedTuple

import msgspec

from headrace.edge.auth.api_keys import KeyRing, Principal
from headrace.edge.dispatch.request import LiveRequest
from headrace.edge.limits import headers
from headrace.edge.limits.budget import Bill, BudgetReserver, Reservation, cost
from headrace.edge.limits.counters import LimitSet
from headrace.edge.limits.limiter import Limiter, Ticket
from headrace.edge.limits.usage_writer import UsageWriter
from headrace.gateway.policy import access, quotas
from headrace.gateway.policy.access import AccessTarget
from headrace.gateway.policy.quotas import Quota
from headrace.gateway.policy.records import Metric
from headrace.gateway.policy.snapshot import Grant
from headrace.gateway.store.usage import UsageRow
from headrace.protocol.endpoints import Endpoint, Headers
from headrace.protocol.errors import Code, HeadraceError
from headrace.protocol.frames import End, Fail, Frame, Usage


class AdmissionReceipt(msgspec.Struct, frozen=True):
    """A request that was let in."""

    grant: Grant
    group: str
    """To which it is accounted."""
    model: str
    ticket: Ticket
    headers: Headers
    """What its client is told of its limits."""
    spending: Reservation | None = None
    """What is reserved for it, of an external model."""


MAX_KNOWN: Final = 100_000
NOTHING: Final = Usage()


class _Known(NamedTuple):
    """What is the same for all requests with one key, for one model and endpoint."""

    grant: Grant
    allowed: bool
    group: str
    """To which they are accounted."""
    tab: LimitSet
    money: tuple[Quota, ...]
    """The budgets of an external model."""


class AdmissionControl:
    """Lets requests in and out. Without `accounts` nothing is written down."""

    def __init__(
        self,
        keys: KeyRing,
        limiter: Limiter,
        accounts: UsageWriter | None = None,
        purse: BudgetReserver | None = None,
    ) -> None:
        self._keys = keys
        self._purse = purse
        self._limiter = limiter
        self._accounts = accounts
        self._of = keys.snapshot
        self._known: dict[tuple[str, AccessTarget, Endpoint], _Known] = {}
        """What was found out of the snapshot `_of`."""

    def check(self, principal: Principal, model: AccessTarget, endpoint: Endpoint) -> bool:
        """Whether `principal` may use `model`. Raises ``permission_denied`` for the endpoint."""
        grant = principal.grant
        if grant is None or self._know(grant, model, endpoint).allowed:
            return True
        return check(principal, model, endpoint)

    async def enter(
        self,
        id: str,
        principal: Principal,
        model: AccessTarget,
        endpoint: Endpoint,
        bill: Bill | None = None,
    ) -> AdmissionReceipt | None:
        """Let a request in. Raises HeadraceError where a limit is reached.

        That `model` may be asked was found out before, by `check`. What it can cost is reserved.
        """
        grant = principal.grant
        if grant is None:
            if bill is not None:
                raise HeadraceError(Code.PERMISSION_DENIED, "This model needs a key of this site.")
            return None
        known = self._know(grant, model, endpoint)
        ticket = await self._limiter.enter(id, known.tab)
        spending = None
        if bill is not None:
            spending = Reservation(bill.file, known.money, bill.most)
            try:
                await self._reserve(spending)
            except HeadraceError:
                self._limiter.leave(ticket, 0)
                raise
        told = headers.headers(ticket.requests, ticket.tokens, time.time())
        return AdmissionReceipt(grant, known.group, model.name, ticket, told, spending)

    async def anew(self, request: LiveRequest) -> None:
        """It is to be sent once more: that costs once more. Raises HeadraceError."""
        admission = _admission(request)
        if admission is not None and admission.spending is not None:
            await self._reserve(admission.spending)

    async def _reserve(self, spending: Reservation) -> None:
        if self._purse is None or not spending.quotas:
            raise HeadraceError(Code.INSUFFICIENT_QUOTA, "This model has no budget.")
        await self._purse.reserve(spending)

    def _know(self, grant: Grant, model: AccessTarget, endpoint: Endpoint) -> _Known:
        """What goes for each such request."""
        snapshot = self._keys.snapshot
        if self._of is not snapshot:
            self._of, self._known = snapshot, {}
        asked = (grant.who.key, model, endpoint)
        known = self._known.get(asked)
        # Who was admitted by a snapshot before this one is here with a grant that is over.
        if known is None or known.grant is not grant:
            group = access.accounted(grant.rights, model, endpoint)
            found = quotas.quotas(snapshot.book, grant.who, group, model)
            known = _Known(
                grant,
                access.may(grant.rights, model, endpoint),
                group,
                LimitSet(quotas.counted(each for each in found if each.metric is not Metric.COST)),
                tuple(each for each in found if each.metric is Metric.COST),
            )
            if len(self._known) < MAX_KNOWN:
                self._known[asked] = known
        return known

    def started(self, request: LiveRequest) -> None:
        """A worker has taken it."""
        admission = _admission(request)
        if admission is not None:
            self._limiter.dequeue(admission.ticket)

    def turned_away(self, admission: AdmissionReceipt | None) -> None:
        """It was let in, and could not be taken all the same."""
        if admission is not None:
            self._limiter.leave(admission.ticket, 0)
            self._settle(admission, 0)

    def leave(self, request: LiveRequest, status: int, outcome: str, now: float) -> None:
        """It is over. `now` is the event loop's clock."""
        admission = _admission(request)
        if admission is None:
            return
        answer = request.answer
        # One that was in the queue may have been taken, by a worker that has not said so yet.
        spending = admission.spending
        taken = answer.worker or (request.tries and (request.left or spending is not None))
        unknown = answer.usage == NOTHING and taken and answer.error is not None
        row = _row(request, admission, status, outcome, now)
        if spending is not None and (answer.worker or not taken):
            row = msgspec.structs.replace(row, cost=self._settle(admission, cost(answer, spending)))
        if unknown and self._accounts is not None:
            # Its worker is told to stop, and says what the engine has counted until then.
            self._limiter.leave(admission.ticket, 0)
            self._accounts.expect(row, lambda row, told: self._late(admission, row, told))
            return
        self._limiter.leave(admission.ticket, row.prompt_tokens + row.completion_tokens)
        if self._accounts is not None:
            self._accounts.add(row)

    def stopped(self, request: str, frame: Frame) -> None:
        """A worker has said its last word on a request that is over here."""
        if self._accounts is not None and isinstance(frame, End | Fail):
            self._accounts.count(request, frame.usage, frame.timings.gpu)

    def _late(self, admission: AdmissionReceipt, row: UsageRow, told: bool) -> UsageRow:
        """The last of a request that was broken off; `told`, a worker has said that it was."""
        self._limiter.charge(admission.ticket, row.prompt_tokens + row.completion_tokens)
        spending = admission.spending
        if spending is None or spending.settled:
            return row
        # Nobody knew whether a worker had taken it when its client left.
        return msgspec.structs.replace(row, cost=self._settle(admission, told * spending.each))

    def _settle(self, admission: AdmissionReceipt, spent: int) -> int:
        if self._purse is None or admission.spending is None:
            return 0
        return self._purse.settle(admission.spending, spent)


def check(principal: Principal, model: AccessTarget, endpoint: Endpoint | None = None) -> bool:
    """Whether `principal` may use `model`. Raises ``permission_denied`` for the endpoint alone."""
    if principal.grant is None:
        return True
    rights = principal.grant.rights
    if not access.may(rights, model):
        return False
    if endpoint is not None and not access.may(rights, model, endpoint):
        raise HeadraceError(
            Code.PERMISSION_DENIED, f"Your key may not use {endpoint} of this model."
        )
    return True


def _row(
    request: LiveRequest, admission: AdmissionReceipt, status: int, outcome: str, now: float
) -> UsageRow:
    answer = request.answer
    return UsageRow(
        request=request.id,
        at=time.time() - (now - request.arrived),
        tenant=request.tenant,
        organisation=admission.grant.organisation,
        group=admission.group,
        model=admission.model,
        cluster=answer.cluster,
        endpoint=request.endpoint.value,
        status=status,
        outcome=outcome,
        prompt_tokens=answer.usage.prompt_tokens,
        completion_tokens=answer.usage.completion_tokens,
        queue_seconds=(request.started or now) - request.arrived,
        first_seconds=request.first_byte - request.arrived if request.first_byte else 0.0,
        total_seconds=now - request.arrived,
        gpu_seconds=answer.timings.gpu,
    )


def _admission(request: LiveRequest) -> AdmissionReceipt | None:
    """What this module gave for the request; None where nothing is limited or accounted."""
    receipt = request.receipt
    return receipt if isinstance(receipt, AdmissionReceipt) else None
