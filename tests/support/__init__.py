"""What tests and benchmarks share: command builders, differential cases, the vendor's model, seeded faults."""
