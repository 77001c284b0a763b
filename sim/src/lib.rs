//! The deterministic simulator: fake clock, log, store, network, faults and oracles.
