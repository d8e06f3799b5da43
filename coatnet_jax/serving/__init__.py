"""A trained model behind HTTP: a page, a JSON endpoint, health and metrics.

    server.py        the socket, the signals, from start to stop
    connections.py   who may connect, how long headers and answers may take
    application.py   paths, and what becomes of each request
    guard.py         what is asked of every request, and said in every answer
    uploads.py       bodies: how large, how slow, of what type; forms
    pictures.py      pictures: how many pixels, and what the model needs of them
    batching.py      simultaneous requests as one batch
    served_model.py  programs that are compiled ahead: predictions and maps
    page.py          the page, page.html.j2 with page.css and page.js
    openapi.py       what the endpoints say of themselves
    metrics.py       counts and durations, as Prometheus reads them
    limits.py        all limits in one place
    failures.py      the one exception for what a client got wrong

Command line: `tools.serve`. What is promised, and what is not, is in
docs/serve.md and docs/security.md of a checkout.
"""
