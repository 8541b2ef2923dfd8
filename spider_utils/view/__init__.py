"""What people look at: figures, diagrams, reports and the slice viewer."""
