"""`/{use_case}/v2/…`: the routes of the Open Inference Protocol."""

from http import HTTPStatus

from fastapi import FastAPI, Request, Response

from data_contracts.use_case import UseCase
from serving.access_log import about
from serving.body import json_response, validate
from serving.entrance import entered
from serving.inference import metadata, read_request, refusal, written
from serving.predict_body import PredictRequest
from serving.problem import Problem
from serving.replica import Replica


def add_inference(
    app: FastAPI, use_case: UseCase, model: type[PredictRequest], max_candidates: int
) -> None:
    """Add the protocol's routes to the application of a use case, whose model has its name and
    takes requests of this `model`."""
    fields = {name: use_case.contract.fields[name] for name in use_case.request_fields}

    def replica(request: Request) -> Replica:
        return request.app.state.replica

    def served(request: Request) -> list[str]:
        arms = replica(request).predictor.arms
        return [arm.bundle.version for arm in arms.answering(arms.now)]

    def known(request: Request, name: str, version: str | None) -> bool:
        return name == use_case.name and (version is None or version in served(request))

    async def infer(request: Request, name: str, version: str | None = None) -> Response:
        try:
            return await _inferred(request, name, version)
        except Problem as problem:
            return refusal(problem)

    async def _inferred(request: Request, name: str, version: str | None) -> Response:
        here = replica(request)
        admitted = entered(request)
        if name != use_case.name:
            raise Problem(HTTPStatus.NOT_FOUND, f"model {name[:60]!r}: here is {use_case.name}")
        content = await request.body()
        body, wanted = read_request(content, request.headers, fields, max_candidates)
        valid = validate(model, body)
        about(request, valid.request_id)
        found = await here.predictor.answer(valid, admitted.caller.roles, admitted.until, version)
        content, headers, kind = written(found, wanted)
        return Response(content, media_type=kind, headers=headers)

    def described(request: Request, name: str, version: str | None = None) -> Response:
        if not known(request, name, version):
            problem = Problem(HTTPStatus.NOT_FOUND, f"model {name[:60]!r}: is not served here")
            return refusal(problem)
        return json_response(metadata(use_case.name, served(request), fields))

    def ready(request: Request, name: str, version: str | None = None) -> Response:
        return Response(status_code=200 if known(request, name, version) else 404)

    def server() -> Response:
        extensions = ["binary_tensor_data"]
        return json_response({"name": "headrace", "version": "2", "extensions": extensions})

    def alive() -> Response:
        return Response()

    for path, answers in (
        ("/v2", server),
        ("/v2/health/live", alive),
        ("/v2/health/ready", alive),
        ("/v2/models/{name}", described),
        ("/v2/models/{name}/versions/{version}", described),
        ("/v2/models/{name}/ready", ready),
        ("/v2/models/{name}/versions/{version}/ready", ready),
    ):
        app.add_api_route(path, answers, include_in_schema=False)
    for path in ("/v2/models/{name}/infer", "/v2/models/{name}/versions/{version}/infer"):
        app.add_api_route(path, infer, methods=["POST"], include_in_schema=False)
