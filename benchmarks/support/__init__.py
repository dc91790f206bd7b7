"""What benchmarks are made of: published times, programs that the product does not ship, the vendor's estimator."""
