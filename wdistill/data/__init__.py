"""Any labelled image dataset as splits of pixels."""
