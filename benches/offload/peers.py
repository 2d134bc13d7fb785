"""The two peers of the offload benchmark: boto3 by hand, and Celery with SQS.

Both do for a job what Spillway's consumer does: post the body to the application, put its answer
into S3, delete the message. Started by `cargo xtask bench offload`; settings are in the environment.
"""
import json
import os
import sys
import uuid

import boto3
import urllib3

QUEUE = os.environ["BENCH_QUEUE"]
BUCKET = os.environ["BENCH_BUCKET"]
APP = os.environ.get("BENCH_APP", "")
REGION = os.environ["AWS_REGION"]

sqs = boto3.client("sqs", REGION)
s3 = boto3.client("s3", REGION)
http = urllib3.PoolManager(maxsize=8)


def run(job, body):
    """The application's answer to the job, stored."""
    answer = http.request("POST", APP, body=body, headers={"X-Job-Id": job})
    s3.put_object(Bucket=BUCKET, Key=f"results/{job}", Body=answer.data)


def accepted(environ, start_response, send):
    """A WSGI handler that sends the body and answers 202."""
    body = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0)).decode()
    answer = json.dumps({"id": send(body), "status": "queued"}).encode()
    start_response("202 Accepted", [("Content-Type", "application/json"), ("Content-Length", str(len(answer)))])
    return [answer]


def boto3_app(environ, start_response):
    """gunicorn peers:boto3_app"""
    return accepted(environ, start_response, lambda body: sqs.send_message(QueueUrl=QUEUE, MessageBody=body)["MessageId"])


def boto3_consumer():
    """python peers.py consume"""
    while True:
        answer = sqs.receive_message(QueueUrl=QUEUE, MaxNumberOfMessages=10, WaitTimeSeconds=5)
        for message in answer.get("Messages", []):
            run(message["MessageId"], message["Body"])
            sqs.delete_message(QueueUrl=QUEUE, ReceiptHandle=message["ReceiptHandle"])


def make_celery():
    """celery --app peers worker"""
    from celery import Celery

    endpoint = os.environ["AWS_ENDPOINT_URL"].removeprefix("http://")
    app = Celery("peers", broker=f"sqs://test:test@{endpoint}")
    app.conf.update(
        task_ignore_result=True,
        task_acks_late=True,
        worker_prefetch_multiplier=1,
        broker_connection_retry_on_startup=True,
        task_default_queue="work",
        broker_transport_options={
            "region": REGION,
            "is_secure": False,
            "wait_time_seconds": 5,
            "polling_interval": 0,
            "predefined_queues": {"work": {"url": QUEUE, "access_key_id": "test", "secret_access_key": "test"}},
        },
    )
    return app


celery = make_celery() if os.environ.get("BENCH_CELERY") else None
if celery:

    @celery.task(name="run")
    def task(body):
        run(str(uuid.uuid4()), body)


def celery_app(environ, start_response):
    """gunicorn peers:celery_app"""
    return accepted(environ, start_response, lambda body: task.delay(body).id)


if __name__ == "__main__" and sys.argv[1:] == ["consume"]:
    boto3_consumer()
