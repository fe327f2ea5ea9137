"""What a search found, as data (`search_report`) and as one HTML page that needs nothing else (`page`)."""
