"""What a BlueZ radio is asked for."""

from __future__ import annotations

from dataclasses import dataclass

from gatewayd.ports.radio import RadioHelper


@dataclass(frozen=True, slots=True)
class BluezOptions:
    """Addresses as `00:11:22:33:44:55`; times in seconds unless the name says otherwise.

    adapter: None takes the first one there is. lock_adapter: dials locks; None is the same one.
    link_cap: phones connected at once. speak_s: how long one may be connected and silent.
    start_s: how long the start may take. check_s: between looks at whether all is still so.
    retry_s: wait after the first failure in a row; one more of it for each further one.
    activate_s: how long bluetoothd may be away before the bus is asked to start it.
    refresh_s: after how long an advertisement is registered anew, whatever is said of it.
    dial_s: after how long a dial fails, waiting for its turn included. turn_s: after how long
    without a connection one dial lets the next one try; phones find the advertisement meanwhile.
    helper: restarts an adapter past bluetoothd; a rung of the ladder, where there is one.
    """

    adapter: str | None = None
    lock_adapter: str | None = None
    name: str = "gatewayd"
    info: bytes = b""
    link_cap: int = 5
    speak_s: float = 5.0
    advertising_interval_ms: tuple[float, float] = (20.0, 30.0)
    start_s: float = 10.0
    check_s: float = 10.0
    retry_s: float = 0.5
    activate_s: float = 3.0
    refresh_s: float = 60.0
    dial_s: float = 8.0
    turn_s: float = 4.0
    helper: RadioHelper | None = None
