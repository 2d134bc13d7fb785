"""Asks for a report: python3 producer.py USER [INSTRUMENT_ID …]"""

import json
import os
import sys

import boto3


def main(user_id, *instruments):
    body = {"user_id": user_id, "report_params": {"instruments": [int(each) for each in instruments]}}
    sqs = boto3.client("sqs")
    sent = sqs.send_message(QueueUrl=os.environ["QUEUE_URL"], MessageBody=json.dumps(body))
    print(sent["MessageId"])


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    main(*sys.argv[1:])
