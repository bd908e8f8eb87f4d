"""Public fakes and contract suites. Production never imports it."""
