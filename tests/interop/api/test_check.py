"""That the check finds what it is to find."""

import json
import unittest

from check import Document, events


def document(schema=None, **more):
    answer = {"200": {"description": "x", "content": {"application/json": {"schema": schema or {"$ref": "#/components/schemas/One"}}}}}
    one = {"type": "object", "properties": {"at": {"type": "string", "format": "date-time", "description": "x"}}, "required": ["at"],
           "additionalProperties": False, **more}
    return Document(json.dumps({
        "paths": {"/one": {"get": {"operationId": "one", "responses": answer}}},
        "components": {"schemas": {"One": one}},
    }))


def stream():
    """A document whose /one is a stream of events called at."""
    live = document()
    answers = live.root["paths"]["/one"]["get"]["responses"]
    answers["200"]["content"] = {"text/event-stream": {"schema": {}, "x-events": {"at": {"$ref": "#/components/schemas/One"}}}}
    return live


class Check(unittest.TestCase):
    def faults(self, status=200, kind="application/json", body='{"at": "2026-11-26T00:00:00.000Z"}'):
        return document().faults("one", status, kind, body)

    def test_what_is_as_told_has_no_fault(self):
        self.assertEqual(self.faults(), [])
        self.assertEqual(self.faults(kind="application/json; charset=utf-8"), [])
        self.assertEqual(document().own_faults(), [])

    def test_what_is_not_as_told_is_found(self):
        self.assertIn("404 is not told of", self.faults(status=404))
        self.assertIn("Content-Type", self.faults(kind="text/plain")[0])
        for body in ("", "{", "[]", "{}", '{"at": 7}', '{"at": "now"}', '{"at": "2026-11-26T00:00:00Z", "more": 1}'):
            self.assertEqual(len(self.faults(body=body)), 1, body)

    def test_faults_of_the_document_are_found(self):
        self.assertIn("required", document(required=["at", "by"]).own_faults()[0])
        self.assertIn("no description", document(properties={"at": {"type": "string"}}).own_faults()[0])
        self.assertEqual(len(document(type="text").own_faults()), 1)
        self.assertEqual(len(document({"$ref": "#/components/schemas/Two"}).own_faults()), 1)

    def test_events_are_read_and_each_is_looked_at(self):
        at = 'event: at\ndata: {"at": "2026-11-26T00:00:00Z"}\n\n'
        self.assertEqual(list(events(":\n\nid: 7\nevent: x\ndata: {}\n\ndata: ha")), [("x", "7", "{}")])
        live = stream()
        self.assertEqual(live.faults("one", 200, "text/event-stream", at + at), [])
        self.assertEqual(live.seen_events, {"at"})
        for bad in ("event: at\ndata: {\n\n", "event: at\ndata: {}\n\n", "event: on\ndata: {}\n\n"):
            self.assertEqual(len(live.faults("one", 200, "text/event-stream", at + bad)), 1, bad)

    def test_a_schema_that_extends_another_has_all_of_it(self):
        two = document()
        schemas = two.root["components"]["schemas"]
        schemas["Two"] = json.loads(json.dumps({"x-extends": "One", **schemas["One"]}))
        self.assertEqual(two.own_faults(), [])
        schemas["Two"]["required"] = []
        self.assertIn("differs", two.own_faults()[0])
        schemas["Two"]["x-extends"] = "Three"
        self.assertIn("which there is not", two.own_faults()[0])


unittest.main(argv=["check"], verbosity=0)
