"""One self-contained HTML file about everything that some results folders hold: `bench report`.

`gather` reads; `overview`, `runs`, `classes`, `findings`, `failed` and `pictures` say it in words, tables and plots;
`page` writes it down.
"""
