"""Articles: read, admitted, cleaned, and checked against the prefilter."""
