"""What tests share: references, fakes, servers, tiny models and bundles."""
