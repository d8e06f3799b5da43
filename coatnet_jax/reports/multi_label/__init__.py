"""What a report says where images have several labels each, or none.

`outcomes.py` is what became of every image, `measures.py` figures of that,
`mistakes.py` pictures, and `page.py` the page.
"""
