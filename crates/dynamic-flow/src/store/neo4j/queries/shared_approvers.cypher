MATCH (flow:Flow)<-[:OF]-(run:SuspendedFlow {status: 'waiting'})
      -[:HAS]->(approver:Metadata {name: 'approver'})
WITH approver, collect(DISTINCT flow.id) AS flows, count(DISTINCT run) AS runs
WHERE size(flows) > 1
RETURN approver.value AS approver, flows, runs
ORDER BY runs DESC
