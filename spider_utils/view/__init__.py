"""What people look at: figures, diagrams, reports, the slice viewer and the page for a scan."""
