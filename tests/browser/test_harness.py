"""What a page does wrong is noticed."""

from conftest import watch


def test_what_goes_wrong_is_noticed(browser, gateway):
    troubles = []
    with browser.new_context() as context:
        watch(context, gateway.url, troubles)
        page = context.new_page()
        page.goto("about:blank")
        assert troubles == []
        page.evaluate("console.error('said')")
        with page.expect_event("pageerror"):
            page.evaluate("setTimeout(() => { throw new Error('thrown') })")
        page.evaluate("fetch('http://elsewhere.example/').catch(() => {})")
        page.set_content("<meta http-equiv=Content-Security-Policy content='script-src https:'><script>1</script>")
        page.goto("about:blank")
    for trouble in ("console: said", "uncaught: thrown", "foreign request: http://elsewhere", "Content Security Policy"):
        assert any(trouble in told for told in troubles), (trouble, troubles)
