"""Reads OCSF events, one JSON a line, and prints what the published schema of their version says against each: nothing, if all is well."""

import json
import sys

from jsonschema import Draft202012Validator, FormatChecker
from ocsf_json_schema import OcsfJsonSchemaEmbedded, get_ocsf_schema

validators = {}
for line in sys.stdin:
    event = json.loads(line)
    version, uid = event["metadata"]["version"], event["class_uid"]
    if (version, uid) not in validators:
        schema = OcsfJsonSchemaEmbedded(get_ocsf_schema(version=version))
        name = schema.lookup_class_name_from_uid(uid)
        validators[version, uid] = Draft202012Validator(
            schema.get_class_schema(class_name=name), format_checker=FormatChecker()
        )
    for error in validators[version, uid].iter_errors(event):
        place = "/".join(str(part) for part in error.absolute_path)
        print(f"{event['metadata']['event_code']} {place}: {error.message[:300]}")
