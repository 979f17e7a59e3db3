"""Decisions of the scaler. No I/O and no clock: functions of plain values."""
