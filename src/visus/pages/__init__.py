"""Results as HTML, PNG and Markdown: the report, the look page, the comparison of tasks, the model card."""
