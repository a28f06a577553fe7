from dev import docs


def test_the_state_diagram_of_the_page_is_the_products() -> None:
    """`make docs` makes it anew."""
    page = docs.PAGE.read_text()
    assert docs.diagram() in page
    assert docs.table() in page
    assert docs.written(page) == page
