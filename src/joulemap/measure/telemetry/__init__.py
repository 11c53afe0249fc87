"""What a serving engine tells of itself: scraped, brought to one vocabulary, and differenced over a window."""
