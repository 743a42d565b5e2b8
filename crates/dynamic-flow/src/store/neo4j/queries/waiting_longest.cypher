MATCH (:Tool {id: $tool})<-[w:WAITS_FOR]-(run:SuspendedFlow)
RETURN run.id AS run, w.createdAt AS since, w.expiresAt AS until
ORDER BY since LIMIT 10
