"""What all stages share: contracts, process, settings, errors, telemetry, clock, commands."""
