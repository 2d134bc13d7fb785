"""Takes report requests from the queue, one after the other, until it is stopped."""

import json
import os
import signal
import sys
import urllib.request

import boto3

from market.assets import package
from market.reports import generate_report as compute_report
from market.series import Series

QUEUE_URL = os.environ["QUEUE_URL"]
BUCKET = os.environ["BUCKET"]
MARKET_URL = os.environ.get("MARKET_URL", "http://127.0.0.1:8080")
REPORT_SECONDS = float(os.environ.get("MARKET_REPORT_SECONDS", "4"))
INSTRUMENTS = range(1, 30001)

# Both read AWS_ENDPOINT_URL, the region and the credentials from the environment.
sqs = boto3.client("sqs")
s3 = boto3.client("s3")
series = Series(package("vega-datasets") / "data")


def generate_report(user_id, report_params):
    return compute_report(user_id, report_params, series, INSTRUMENTS, REPORT_SECONDS)


def notify_user(user_id, message_id, location):
    event = {"id": message_id, "data": {"job": message_id, "user": user_id, "result": location}}
    request = urllib.request.Request(
        f"{MARKET_URL}/hooks/report-ready",
        json.dumps(event).encode(),
        {"Content-Type": "application/json"},
    )
    urllib.request.urlopen(request, timeout=10).close()


def handle(message):
    body = json.loads(message["Body"])
    user_id, report_params = body["user_id"], body["report_params"]
    report = generate_report(user_id, report_params)
    key = f"reports/{message['MessageId']}.json"
    s3.put_object(Bucket=BUCKET, Key=key, Body=json.dumps(report), ContentType="application/json")
    # The queue shows a message again that was not deleted: the report is safe by now.
    sqs.delete_message(QueueUrl=QUEUE_URL, ReceiptHandle=message["ReceiptHandle"])
    link = s3.generate_presigned_url("get_object", {"Bucket": BUCKET, "Key": key}, ExpiresIn=3600)
    notify_user(user_id, message["MessageId"], link)
    print(f"report {key} for {user_id}", flush=True)


def main():
    while True:
        response = sqs.receive_message(QueueUrl=QUEUE_URL, MaxNumberOfMessages=10, WaitTimeSeconds=20)
        for message in response.get("Messages", []):
            try:
                handle(message)
            except Exception as error:
                # It comes back after the visibility timeout, and goes to the DLQ in the end.
                print(f"message {message['MessageId']} failed: {error!r}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    main()
